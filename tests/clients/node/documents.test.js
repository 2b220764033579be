// The example of docs/clients.md, as it stands there.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { newClient } from './reel.js';

const here = fileURLToPath(new URL('.', import.meta.url));

test('the example for Node makes a video', (t) => {
  const document = readFileSync(join(here, '../../../docs/clients.md'), 'utf8');
  const [, example] = /^```js\n(.*?)^```$/ms.exec(document);
  const directory = mkdtempSync(join(tmpdir(), 'example-'));
  t.after(() => rmSync(directory, { recursive: true }));
  symlinkSync(join(here, 'node_modules'), join(directory, 'node_modules'));
  const { baseURL, apiKey } = newClient();
  execFileSync(process.execPath, ['--input-type=module', '--eval', example], {
    cwd: directory,
    env: { ...process.env, OPENAI_BASE_URL: baseURL, OPENAI_API_KEY: apiKey },
    stdio: 'pipe',
  });
  assert.equal(readFileSync(join(directory, 'out.mp4')).toString('latin1', 4, 8), 'ftyp');
});
