// The Node application of bench/overhead.py, the same in each variant: node server.js PORT.
'use strict';
const http = require('node:http');

const USERS = '[{"id": 1, "name": "Ada"}, {"id": 2, "name": "Grace"}]\n';

const server = http.createServer((request, response) => {
  const found = request.url === '/api/users';
  const body = found ? USERS : 'missing\n';
  response.writeHead(found ? 200 : 404, { 'Content-Type': 'application/json', 'Content-Length': body.length });
  response.end(body);
});
server.keepAliveTimeout = 60000;
server.listen(Number(process.argv[2]), '127.0.0.1');

// Without a listener left the process ends by itself, once what is instrumented has flushed.
process.on('SIGTERM', () => {
  server.close();
  server.closeAllConnections();
});
