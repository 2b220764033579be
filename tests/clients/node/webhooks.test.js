// What the server tells of the ends of jobs is verified and read by the package.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import OpenAI from 'openai';
import { FEW_STEPS, given, MANY_STEPS, newClient, newReceiver, PROMPT } from './reel.js';

const client = newClient({ webhookSecret: given('REEL_WEBHOOK_SECRET') });
let receiver;

before(async () => {
  receiver = await newReceiver();
});
after(() => receiver.close());

test('a finished video is told and signed', async () => {
  const video = await client.videos.create({ prompt: PROMPT, callback_url: receiver.url, ...FEW_STEPS });
  const { path, headers, body } = await receiver.about(video.id);
  assert.equal(path, '/mine');
  const event = await client.webhooks.unwrap(body, headers);
  assert.deepEqual([event.type, event.object, event.data.id], ['video.completed', 'event', video.id]);
  assert.equal((await client.videos.retrieve(event.data.id)).status, 'completed');
  await client.videos.delete(video.id);
});

test('a cancelled video is told as failed', async () => {
  const video = await client.videos.create({ prompt: PROMPT, callback_url: receiver.url, ...MANY_STEPS });
  await client.post(`/videos/${video.id}/cancel`);
  const { headers, body } = await receiver.about(video.id);
  const event = await client.webhooks.unwrap(body, headers);
  assert.deepEqual([event.type, event.data.id], ['video.failed', video.id]);
  await client.videos.delete(video.id);
});

test('a key may say where all of its videos are told', async () => {
  const told = newClient({ key: given('REEL_TOLD_KEY'), webhookSecret: given('REEL_TOLD_SECRET') });
  const video = await told.videos.create({ prompt: PROMPT, ...FEW_STEPS });
  const { path, headers, body } = await receiver.about(video.id);
  assert.equal(path, '/key');
  assert.equal((await told.webhooks.unwrap(body, headers)).data.id, video.id);
  await told.videos.delete(video.id);
});

test('a message that was changed or signed by others is refused', async () => {
  const video = await client.videos.create({ prompt: PROMPT, callback_url: receiver.url, ...FEW_STEPS });
  const { headers, body } = await receiver.about(video.id);
  await client.webhooks.verifySignature(body, headers);
  const refused = OpenAI.InvalidWebhookSignatureError;
  await assert.rejects(client.webhooks.unwrap(body.replace('completed', 'failed'), headers), refused);
  await assert.rejects(client.webhooks.unwrap(body, headers, given('REEL_TOLD_SECRET')), refused);
  await client.videos.delete(video.id);
});
