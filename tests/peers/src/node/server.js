// Node's own http server: node server.js PORT. One log line for each answered request.
'use strict';
const http = require('node:http');
const { setTimeout: sleep } = require('node:timers/promises');

const USERS = '[{"id": 1, "name": "Ada"}, {"id": 2, "name": "Grace"}]\n';
const BIG = Buffer.alloc(1024 * 1024, 'x');
const FIXED = {
  '/api/users': [200, USERS],
  '/boom': [500, 'boom\n'],
  '/big': [200, BIG],
  '/empty': [204, ''],
};

async function readBody(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts);
}

async function answer(request, body) {
  const url = new URL(request.url, 'http://peer');
  if (url.pathname === '/echo') return [200, body];
  if (url.pathname.startsWith('/id/')) return [200, `${url.pathname}\n`];
  if (url.pathname === '/slow') {
    await sleep(Number(url.searchParams.get('ms')));
    return [200, 'slow\n'];
  }
  if (request.method === 'DELETE') return [200, 'deleted\n'];
  return FIXED[url.pathname] ?? [404, 'missing\n'];
}

async function sendChunks(response) {
  response.writeHead(200, { 'Content-Type': 'text/plain' });
  for (const chunk of ['one\n', 'two\n', 'three\n']) {
    response.write(chunk);
    await sleep(10);
  }
  response.end();
  return [200, 14];
}

async function send(request, response, body) {
  if (request.url === '/chunked') return sendChunks(response);
  const [status, content] = await answer(request, body);
  const size = Buffer.byteLength(content);
  response.writeHead(status, status === 204 ? {} : { 'Content-Length': size });
  response.end(request.method === 'HEAD' ? undefined : content);
  return [status, request.method === 'HEAD' ? 0 : size];
}

const server = http.createServer(async (request, response) => {
  const body = await readBody(request);
  const [status, size] = await send(request, response, body);
  console.log(`"${request.method} ${request.url} HTTP/1.1" ${status} ${size} ${body.length}`);
});
server.keepAliveTimeout = 60000;
server.listen(Number(process.argv[2]), '127.0.0.1');
