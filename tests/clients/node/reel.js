// What the tests share: clients of a server at REEL_BASE_URL (tests/e2e/test_clients.py sets it and the rest), a proxy
// that loses answers, a receiver of webhooks, and a look into videos.

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { connect, createServer } from 'node:net';
import { crc32, deflateSync } from 'node:zlib';
import OpenAI from 'openai';

export const PROMPT = 'a red circle moving right on a black background';
export const FEW_STEPS = { num_inference_steps: 2 };
export const MANY_STEPS = { num_inference_steps: 200 };
// Longest wait for whatever should come, in milliseconds.
const PATIENCE_MS = 60_000;
// What a video is asked for when the server does not say when.
const POLL_MS = 100;

/** What the environment says. */
export function given(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
}

const serverUrl = given('REEL_BASE_URL').replace(/\/+$/, '').replace(/\/v1$/, '');

/** A client that fails at once: trying again would hide a wrong status. */
export function newClient({ key = given('REEL_API_KEY'), ...options } = {}) {
  return new OpenAI({ apiKey: key, baseURL: `${serverUrl}/v1`, maxRetries: 0, ...options });
}

/** Asks as often as the server wants until a video is there or failed: the package has no helper for it. */
export async function poll(client, id) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const { data: video, response } = await client.videos.retrieve(id).withResponse();
    if (video.status === 'completed' || video.status === 'failed') return video;
    if (Date.now() > deadline) throw new Error(`${id} is still ${video.status}`);
    const pause = Number(response.headers.get('openai-poll-after-ms') ?? POLL_MS);
    await new Promise((resume) => setTimeout(resume, pause));
  }
}

/** A finished video. */
export async function makeVideo(client, body = {}) {
  const video = await client.videos.create({ prompt: PROMPT, ...FEW_STEPS, ...body });
  return poll(client, video.id);
}

/** The bytes of an answer. */
export async function bytes(response) {
  return Buffer.from(await (await response).arrayBuffer());
}

/** How many videos appear in the list and how many jobs end while something goes on. */
export async function counting(client, work) {
  const listed = async () => {
    const ids = new Set();
    for await (const video of client.videos.list({ limit: 100 })) ids.add(video.id);
    return ids;
  };
  const ended = async () => {
    const headers = { authorization: `Bearer ${given('REEL_ADMIN_KEY')}` };
    const page = await (await fetch(`${serverUrl}/metrics`, { headers })).text();
    const lines = page.split('\n').filter((line) => line.startsWith('reel_pool_request_total{'));
    return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
  };
  const [idsBefore, endedBefore] = [await listed(), await ended()];
  await work();
  const videos = [...(await listed())].filter((id) => !idsBefore.has(id)).length;
  return { videos, runs: (await ended()) - endedBefore };
}

/** Every picture of a video of 64x64, decoded. */
export function frames(video) {
  const options = ['-v', 'error', '-i', 'pipe:0', '-f', 'rawvideo', '-pix_fmt', 'rgb24', 'pipe:1'];
  const decoded = execFileSync('ffmpeg', options, { input: video, maxBuffer: 1 << 26 });
  const size = 64 * 64 * 3;
  return Array.from({ length: decoded.length / size }, (_, at) =>
    decoded.subarray(at * size, (at + 1) * size),
  );
}

/** A blue PNG of 64x64. */
export function bluePng() {
  const chunk = (name, data) => {
    const body = Buffer.concat([Buffer.from(name), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, sum]);
  };
  const header = Buffer.from([0, 0, 0, 64, 0, 0, 0, 64, 8, 2, 0, 0, 0]);
  const row = Buffer.concat([Buffer.from([0]), ...Array(64).fill(Buffer.from([0, 0, 255]))]);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const pixels = deflateSync(Buffer.concat(Array(64).fill(row)));
  return Buffer.concat([signature, chunk('IHDR', header), chunk('IDAT', pixels), chunk('IEND', Buffer.alloc(0))]);
}

/**
 * Carries requests to the server and loses the first answers to POST: the server has done what it was asked to do, and
 * the client sees a broken connection.
 */
export async function losingProxy(lost) {
  const upstream = new URL(serverUrl);
  const posts = [];
  const proxy = createServer((client) => {
    const server = connect(Number(upstream.port), upstream.hostname);
    let isPost = false;
    client.on('data', (data) => {
      const head = data.toString('latin1');
      if (/^[A-Z]+ \/v1\//.test(head)) {
        isPost = head.startsWith('POST ');
        if (isPost) posts.push(head.split('\r\n\r\n')[0].toLowerCase());
      }
      server.write(data);
    });
    server.on('data', (data) => {
      if (isPost && lost > 0) {
        lost -= 1;
        client.resetAndDestroy();
        server.destroy();
      } else {
        client.write(data);
      }
    });
    for (const [one, other] of [[client, server], [server, client]]) {
      one.on('close', () => other.destroy());
      one.on('error', () => other.destroy());
    }
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return {
    baseURL: `http://127.0.0.1:${proxy.address().port}/v1`,
    posts,
    close: () => proxy.close(),
  };
}

/** Takes webhooks at REEL_WEBHOOK_PORT. */
export async function newReceiver() {
  const messages = [];
  const waiting = new Set();
  const receiver = createHttpServer(async (request, response) => {
    let body = '';
    for await (const part of request) body += part;
    response.writeHead(204).end();
    messages.push({ path: request.url, headers: request.headers, body });
    for (const look of waiting) look();
  });
  receiver.listen(Number(given('REEL_WEBHOOK_PORT')), '127.0.0.1');
  await once(receiver, 'listening');
  return {
    url: `http://127.0.0.1:${given('REEL_WEBHOOK_PORT')}/mine`,
    close: () => receiver.close(),
    /** The message about a video. */
    about: (id) =>
      new Promise((resolve, reject) => {
        const late = setTimeout(() => reject(new Error(`nothing about ${id}`)), PATIENCE_MS);
        const look = () => {
          const found = messages.find((message) => message.body.includes(id));
          if (!found) return;
          clearTimeout(late);
          waiting.delete(look);
          resolve(found);
        };
        waiting.add(look);
        look();
      }),
  };
}
