// An answer that is lost on the way: the package asks again, and there is one video all the same.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { counting, FEW_STEPS, losingProxy, newClient, poll, PROMPT } from './reel.js';

const client = newClient();
const retryCounts = (posts) => posts.map((head) => /x-stainless-retry-count: *(\d+)/.exec(head)[1]);

for (const lost of [1, 2]) {
  test(`a key of its own makes a request safe to send again: ${lost} lost`, async (t) => {
    const proxy = await losingProxy(lost);
    t.after(proxy.close);
    const careful = newClient({ baseURL: proxy.baseURL, maxRetries: 2 });
    const headers = { 'Idempotency-Key': randomUUID() };
    let video;
    const counted = await counting(client, async () => {
      video = await careful.videos.create({ prompt: PROMPT, ...FEW_STEPS }, { headers });
      assert.equal((await poll(client, video.id)).status, 'completed');
    });
    assert.deepEqual(retryCounts(proxy.posts), Array.from({ length: lost + 1 }, (_, at) => String(at)));
    assert.deepEqual(counted, { videos: 1, runs: 1 });
    await client.videos.delete(video.id);
  });
}

test('without a key the tries that the package counts are one request', async (t) => {
  const proxy = await losingProxy(1);
  t.after(proxy.close);
  const careless = newClient({ baseURL: proxy.baseURL, maxRetries: 2 });
  let video;
  const counted = await counting(client, async () => {
    video = await careless.videos.create({ prompt: PROMPT, ...FEW_STEPS });
    assert.equal((await poll(client, video.id)).status, 'completed');
  });
  // The package sends no key by itself, and its option `idempotencyKey` does nothing: if that changes, this says so.
  assert.ok(!proxy.posts.join().includes('idempotency-key'));
  assert.deepEqual(retryCounts(proxy.posts), ['0', '1']);
  assert.deepEqual(counted, { videos: 1, runs: 1 });
  await client.videos.delete(video.id);
});

test('the option idempotencyKey of the package sends nothing', async (t) => {
  const proxy = await losingProxy(0);
  t.after(proxy.close);
  const options = { idempotencyKey: randomUUID() };
  const asking = newClient({ baseURL: proxy.baseURL });
  const video = await asking.videos.create({ prompt: PROMPT, ...FEW_STEPS }, options);
  assert.ok(!proxy.posts.join().includes(options.idempotencyKey));
  await client.videos.delete(video.id);
});
