// Every error is the class that OpenAI's package has for it, with the server's own words.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import OpenAI, { toFile } from 'openai';
import { given, makeVideo, MANY_STEPS, newClient, PROMPT } from './reel.js';

// More than a socket holds: the answer comes while it is being sent.
const UPLOAD_BYTES = 4 * 1024 * 1024;
const client = newClient();

/** The error that a call ends with, which must be of that class. */
async function caught(kind, call) {
  const error = await call.then(
    () => assert.fail('no error'),
    (error) => error,
  );
  assert.ok(error instanceof kind, `${error.constructor.name}: ${error.message}`);
  return error;
}

for (const [fields, param] of [
  [{ prompt: '' }, 'prompt'],
  [{ size: '65x64' }, 'size'],
  [{ seconds: '999' }, 'seconds'],
  [{ model: 'sora-2' }, 'model'],
  [{ num_inference_steps: 201 }, 'num_inference_steps'],
  [{ seed: 'x' }, 'seed'],
  [{ num_step: 3 }, 'num_step'],
  [{ input_reference: { image_url: 'https://example.com/a.png' } }, 'input_reference'],
]) {
  test(`bad input names the parameter: ${JSON.stringify(fields)}`, async () => {
    const error = await caught(OpenAI.BadRequestError, client.videos.create({ prompt: PROMPT, ...fields }));
    assert.deepEqual([error.param, error.type], [param, 'invalid_request_error']);
    assert.ok(error.code);
  });
}

test('who has no good key is refused', async () => {
  const error = await caught(OpenAI.AuthenticationError, newClient({ key: 'unknown' }).videos.list());
  assert.equal(error.code, 'invalid_api_key');
});

test('a key opens only what it may', async () => {
  const limited = newClient({ key: given('REEL_BATCH_KEY') });
  const refused = limited.videos.create({ prompt: PROMPT, priority: 'interactive' });
  const error = await caught(OpenAI.PermissionDeniedError, refused);
  assert.deepEqual([error.code, error.param], ['priority_not_allowed', 'priority']);
  const video = await limited.videos.create({ prompt: PROMPT, priority: 'batch', ...MANY_STEPS });
  await caught(OpenAI.NotFoundError, client.videos.retrieve(video.id));
  await limited.videos.delete(video.id);
});

test('an unknown video is not found', async () => {
  const error = await caught(OpenAI.NotFoundError, client.videos.retrieve(`video_${'0'.repeat(32)}`));
  assert.equal(error.code, 'video_not_found');
});

test('the same key for another request is a conflict, and is not tried again', async () => {
  const headers = { 'Idempotency-Key': randomUUID() };
  const video = await client.videos.create({ prompt: PROMPT, ...MANY_STEPS }, { headers });
  const another = newClient({ maxRetries: 2 }).videos.create({ prompt: 'another one' }, { headers });
  const error = await caught(OpenAI.ConflictError, another);
  assert.equal(error.code, 'idempotency_conflict');
  assert.equal(error.headers.get('x-should-retry'), 'false');
  await client.videos.delete(video.id);
});

test('who asks too often is told when to come back', async () => {
  const slow = newClient({ key: given('REEL_SLOW_KEY') });
  const video = await slow.videos.create({ prompt: PROMPT, ...MANY_STEPS });
  const error = await caught(OpenAI.RateLimitError, slow.videos.create({ prompt: PROMPT }));
  assert.equal(error.code, 'rate_limited');
  assert.ok(Number(error.headers.get('retry-after')) > 0);
  await slow.videos.delete(video.id);
});

test('a video that could not be made is unprocessable', async () => {
  const alone = { prompt: PROMPT, batch: 'never', ...MANY_STEPS };
  const before = [];
  for (let number = 0; number < 4; number += 1) before.push(await client.videos.create(alone));
  const body = { ...alone, begin_within_s: 1 };
  const error = await caught(OpenAI.UnprocessableEntityError, client.post('/videos/sync', { body }));
  assert.equal(error.code, 'video_failed');
  const [failed] = (await client.videos.list({ limit: 1 })).data;
  assert.deepEqual([failed.status, failed.error.code], ['failed', 'deadline_exceeded']);
  for (const { id } of [failed, ...before]) await client.videos.delete(id);
});

test('what no model here can do is said so, once', async () => {
  const persistent = newClient({ maxRetries: 2 });
  const video = await makeVideo(client);
  for (const call of [
    () => persistent.videos.edit({ prompt: PROMPT, video: { id: video.id } }),
    async () => persistent.videos.createCharacter({ name: 'Ann', video: await toFile(Buffer.alloc(UPLOAD_BYTES), 'a.mp4') }),
    () => persistent.videos.getCharacter('char_1'),
  ]) {
    const error = await caught(OpenAI.InternalServerError, call());
    assert.deepEqual([error.status, error.code], [501, 'not_implemented']);
    assert.match(error.message, /none of this server's does/);
    assert.equal(error.headers.get('x-should-retry'), 'false');
  }
  await client.videos.delete(video.id);
});

test('a server that is not there is no status at all', async () => {
  const nobody = newClient({ baseURL: 'http://127.0.0.1:9/v1' });
  await caught(OpenAI.APIConnectionError, nobody.videos.list());
});
