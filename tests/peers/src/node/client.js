// Node's fetch (undici), one request after the other. See "Client programs" in the README.
'use strict';
const readline = require('node:readline');

function options(method, body, framing, headers) {
  const chosen = { method, headers: headers.map((header) => header.split(': ', 2)) };
  if (body === '-') return chosen;
  const bytes = Buffer.from(body, 'base64');
  if (framing !== 'chunked') return { ...chosen, body: bytes };
  return { ...chosen, body: new Blob([bytes]).stream(), duplex: 'half' };
}

async function call(line) {
  const [method, url, body, framing, ...headers] = line.split('\t');
  try {
    const response = await fetch(url, options(method, body, framing, headers));
    return `${response.status} ${(await response.arrayBuffer()).byteLength}`;
  } catch (error) {
    console.error(error);
    return '0 0';
  }
}

async function main() {
  let plan = [];
  for await (const line of readline.createInterface({ input: process.stdin })) {
    if (line) {
      plan.push(line);
      continue;
    }
    for (const one of plan) console.log(await call(one));
    plan = [];
  }
  process.exit(0);
}

main();
