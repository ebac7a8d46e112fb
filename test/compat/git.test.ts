import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CommandExitError } from 'e2b';
import { vmsCannotRun } from '../support/state-folder.ts';
import { useSandbox } from '../support/suite.ts';

// All of it is commands in the sandbox, which are driven in each way of addressing elsewhere.
describe('git of the e2b client', { skip: vmsCannotRun() }, () => {
  const suite = useSandbox();

  test('a repository is made, changed, branched and taken back', async () => {
    const { git, files } = suite.sandbox;
    await git.init('/home/user/work', { initialBranch: 'main' });
    await git.configureUser('Nest Box', 'nest@box.example');
    assert.equal(await git.getConfig('user.name'), 'Nest Box');
    assert.equal(await git.getConfig('no.such'), undefined);
    await git.setConfig('pull.rebase', 'false', { scope: 'local', path: '/home/user/work' });
    assert.equal(await git.getConfig('pull.rebase', { scope: 'local', path: '/home/user/work' }), 'false');

    await files.write('/home/user/work/one.txt', 'one');
    const untracked = await git.status('/home/user/work');
    assert.partialDeepStrictEqual(untracked, { isClean: false, hasUntracked: true, untrackedCount: 1 });
    await git.add('/home/user/work', { files: ['one.txt'] });
    assert.partialDeepStrictEqual(await git.status('/home/user/work'), { hasStaged: true, stagedCount: 1 });
    await git.commit('/home/user/work', 'the first "quoted" $HOME', {
      authorName: 'Other',
      authorEmail: 'o@box.example',
    });
    const { stdout } = await suite.sandbox.commands.run('git log -1 --format=%an:%s', { cwd: '/home/user/work' });
    assert.equal(stdout, 'Other:the first "quoted" $HOME\n');

    await git.createBranch('/home/user/work', 'side');
    assert.deepEqual(await git.branches('/home/user/work'), { branches: ['main', 'side'], currentBranch: 'side' });
    await git.checkoutBranch('/home/user/work', 'main');
    await git.deleteBranch('/home/user/work', 'side', { force: true });
    assert.deepEqual((await git.branches('/home/user/work')).branches, ['main']);

    await files.write('/home/user/work/one.txt', 'changed');
    await git.restore('/home/user/work', { paths: ['one.txt'] });
    assert.equal(await files.read('/home/user/work/one.txt'), 'one');
    await git.commit('/home/user/work', 'nothing', { allowEmpty: true });
    await git.reset('/home/user/work', { mode: 'hard', target: 'HEAD~1' });
    assert.partialDeepStrictEqual(await git.status('/home/user/work'), { isClean: true, currentBranch: 'main' });
    await assert.rejects(git.checkoutBranch('/home/user/work', 'nowhere'), (error) => {
      assert.ok(error instanceof CommandExitError);
      assert.match(error.stderr, /nowhere/);
      return true;
    });
  });

  test('what is pushed arrives in a clone, and comes back by a pull', async () => {
    const { git, files } = suite.sandbox;
    await git.init('/home/user/shared.git', { bare: true, initialBranch: 'main' });
    await git.init('/home/user/first', { initialBranch: 'main' });
    await git.configureUser('Nest Box', 'nest@box.example');
    await git.remoteAdd('/home/user/first', 'origin', '/home/user/shared.git');
    assert.equal(await git.remoteGet('/home/user/first', 'origin'), '/home/user/shared.git');
    assert.equal(await git.remoteGet('/home/user/first', 'other'), undefined);
    await files.write('/home/user/first/note.txt', 'of the first');
    await git.add('/home/user/first');
    await git.commit('/home/user/first', 'a note');
    await git.push('/home/user/first', { remote: 'origin', branch: 'main', setUpstream: true });

    await git.clone('file:///home/user/shared.git', { path: '/home/user/second', branch: 'main', depth: 1 });
    assert.equal(await files.read('/home/user/second/note.txt'), 'of the first');
    await files.write('/home/user/second/note.txt', 'of the second');
    await git.add('/home/user/second', { all: true });
    await git.commit('/home/user/second', 'another note');
    assert.partialDeepStrictEqual(await git.status('/home/user/second'), { ahead: 1, upstream: 'origin/main' });
    await git.push('/home/user/second');
    await git.pull('/home/user/first');
    assert.equal(await files.read('/home/user/first/note.txt'), 'of the second');
  });

  test('credentials are kept where git looks for them', async () => {
    const { git, files } = suite.sandbox;
    await git.dangerouslyAuthenticate({ username: 'me', password: 's3cret', host: 'git.example' });
    assert.equal(await files.read('/home/user/.git-credentials'), 'https://me:s3cret@git.example\n');
  });
});
