// What OpenAI's package for Node does with videos, unmodified, against Reel.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import OpenAI, { toFile } from 'openai';
import { bluePng, bytes, FEW_STEPS, frames, makeVideo, MANY_STEPS, newClient, poll, PROMPT } from './reel.js';

const client = newClient();
let completed;

before(async () => {
  completed = await makeVideo(client, { size: '64x64', seconds: '2.125', seed: 7 });
  assert.equal(completed.status, 'completed', completed.error?.message);
});

test('a created video is queued and ends completed', () => {
  assert.match(completed.id, /^video_[0-9a-f]{32}$/);
  assert.equal(completed.progress, 100);
  assert.deepEqual([completed.size, completed.seconds, completed.seed], ['64x64', '2.125', 7]);
  assert.equal(completed.remixed_from_video_id, null);
});

test('the package has no helper that polls: if that changes, these tests should use it', () => {
  assert.equal(client.videos.createAndPoll, undefined);
  assert.equal(client.videos.poll, undefined);
});

test('the time to ask again is a header of the raw answer', async () => {
  const { data, response } = await client.videos.create({ prompt: PROMPT, ...MANY_STEPS }).withResponse();
  assert.ok(Number(response.headers.get('openai-poll-after-ms')) >= 100);
  await client.videos.delete(data.id);
});

for (const [variant, kind, begins] of [
  ['video', 'video/mp4', '000000'],
  ['thumbnail', 'image/webp', '52494646'],
  ['spritesheet', 'image/jpeg', 'ffd8'],
]) {
  test(`the content can be had as ${variant}`, async () => {
    const response = await client.videos.downloadContent(completed.id, { variant });
    assert.equal(response.headers.get('content-type'), kind);
    const content = await bytes(response);
    assert.ok(content.toString('hex').startsWith(begins));
    assert.equal(content.length, Number(response.headers.get('content-length')));
  });
}

test('the same seed gives the same bytes', async () => {
  const again = await makeVideo(client, { size: '64x64', seconds: '2.125', seed: 7 });
  const [one, other] = await Promise.all(
    [completed, again].map(({ id }) => bytes(client.videos.downloadContent(id))),
  );
  assert.ok(one.equals(other));
  await client.videos.delete(again.id);
});

for (const [way, image] of [
  ['a file', () => toFile(bluePng(), 'first.png', { type: 'image/png' })],
  ['an object with a data URL', () => ({ image_url: `data:image/png;base64,${bluePng().toString('base64')}` })],
]) {
  test(`an image makes it image to video: ${way}`, async () => {
    const video = await makeVideo(client, {
      prompt: 'a red circle moving right on a white background',
      input_reference: await image(),
      seed: 1,
    });
    assert.equal(video.status, 'completed', video.error?.message);
    assert.equal(video.mode, 'i2v');
    const [first] = frames(await bytes(client.videos.downloadContent(video.id)));
    const mean = (channel) => first.filter((_, at) => at % 3 === channel).reduce((a, b) => a + b) / (64 * 64);
    assert.ok(mean(2) > 200 && mean(0) < 100, 'it begins with the picture');
    await client.videos.delete(video.id);
  });
}

test('lists are paged with for await, in both orders', async () => {
  const made = [];
  for (let number = 0; number < 3; number += 1) {
    made.push((await client.videos.create({ prompt: PROMPT, ...FEW_STEPS })).id);
  }
  const ids = async (query) => {
    const listed = [];
    for await (const video of client.videos.list(query)) listed.push(video.id);
    return listed;
  };
  for (const limit of [1, 2, 100]) {
    const newestFirst = await ids({ limit });
    assert.deepEqual(newestFirst.slice(0, 3), made.toReversed());
    assert.deepEqual(await ids({ limit, order: 'asc' }), newestFirst.toReversed());
  }
  const page = await client.videos.list({ limit: 2 });
  assert.deepEqual([page.data.length, page.has_more, page.last_id], [2, true, page.data[1].id]);
  const next = await page.getNextPage();
  assert.equal(next.data[0].id, made[0]);
  for (const id of made) await client.videos.delete(id);
});

test('a remix has another prompt and the same seed', async () => {
  const prompt = 'a blue square moving up on a white background';
  const asked = await client.videos.remix(completed.id, { prompt });
  const remixed = await poll(client, asked.id);
  assert.equal(remixed.status, 'completed', remixed.error?.message);
  assert.deepEqual(
    [remixed.remixed_from_video_id, remixed.prompt, remixed.seed, remixed.shape],
    [completed.id, prompt, completed.seed, completed.shape],
  );
  await client.videos.delete(remixed.id);
});

test('an extension goes on where the video ends', async () => {
  const asked = await client.videos.extend({ prompt: PROMPT, seconds: '1', video: { id: completed.id } });
  const extended = await poll(client, asked.id);
  assert.equal(extended.status, 'completed', extended.error?.message);
  assert.equal(extended.extended_from_video_id, completed.id);
  assert.equal(Number(extended.seconds), Number(completed.seconds) + 1);
  assert.equal(extended.num_frames, completed.num_frames + 8);
  const [before, after] = await Promise.all(
    [completed, extended].map(async ({ id }) => frames(await bytes(client.videos.downloadContent(id)))),
  );
  assert.equal(after.length, 25);
  assert.ok(before.every((frame, at) => frame.equals(after[at])), 'the earlier video, frame by frame');
  await client.videos.delete(extended.id);
});

test('a deleted video is gone, running or not', async () => {
  for (const steps of [FEW_STEPS, MANY_STEPS]) {
    const video = await client.videos.create({ prompt: PROMPT, ...steps });
    const deleted = await client.videos.delete(video.id);
    assert.deepEqual([deleted.id, deleted.deleted, deleted.object], [video.id, true, 'video.deleted']);
    await assert.rejects(client.videos.retrieve(video.id), OpenAI.NotFoundError);
  }
});

test('models are listed with their shapes', async () => {
  const [model] = (await client.models.list()).data;
  assert.ok(model.shapes.some(({ shape }) => shape === '64x64@17f'));
  assert.deepEqual(await client.models.retrieve(model.id), model);
});
