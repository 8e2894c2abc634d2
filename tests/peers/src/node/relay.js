// Node's own server and client: node relay.js PORT UPSTREAM asks UPSTREAM for the path that it is asked for; of /later/ after
// its own answer, of /wait/ after a while.
'use strict';
const http = require('node:http');
const [port, upstream] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });

function ask(path, then) {
  http.get(upstream + path, { agent }, (answer) => {
    answer.resume();
    answer.on('end', () => then(answer.statusCode));
  }).on('error', () => then(502));
}

http.createServer((request, response) => {
  const answer = (status) => response.writeHead(status).end('relayed\n');
  const path = request.url;
  if (path.startsWith('/later/')) {
    answer(200);
    setTimeout(() => ask(path, () => {}), 3);
  } else if (path.startsWith('/wait/')) {
    setTimeout(() => ask(path, answer), Math.random() * 5);
  } else {
    ask(path, answer);
  }
}).listen(Number(port), '127.0.0.1');
