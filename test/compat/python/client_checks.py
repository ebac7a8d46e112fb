"""
A program of a user, run by python.test.ts: the e2b package for Python as it comes, told where to go by its environment alone.
Prints a line of JSON for each check: its name, and what was wrong with it.
"""

import asyncio
import json
import os
import socket
import time
import traceback
import urllib.error
import urllib.request
from contextlib import contextmanager

from e2b import (
    AsyncSandbox,
    CommandExitException,
    FileNotFoundException,
    FilesystemEventType,
    PtySize,
    Sandbox,
    SandboxException,
    SandboxNotFoundException,
    SandboxQuery,
    SandboxState,
    TimeoutException,
)

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


@contextmanager
def raises(kind):
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")


def equal(actual, expected):
    assert actual == expected, f"{actual!r} instead of {expected!r}"


def until(condition):
    ends_at = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends_at, "it never came"
        time.sleep(0.1)


@check
def a_command_tells_output_and_exit_code(sandbox):
    result = sandbox.commands.run("echo out; echo err >&2; echo $COLOUR")
    equal((result.stdout, result.stderr, result.exit_code), ("out\nblue\n", "err\n", 0))
    equal(sandbox.commands.run("whoami; pwd", user="root", cwd="/usr").stdout, "root\n/usr\n")
    with raises(CommandExitException):
        sandbox.commands.run("exit 7")
    with raises(TimeoutException):
        sandbox.commands.run("sleep 60", timeout=1)


@check
def a_command_in_the_background_streams_takes_input_and_is_killed(sandbox):
    heard = []
    handle = sandbox.commands.run("echo first; read line; echo got $line", background=True, stdin=True)
    sandbox.commands.send_stdin(handle.pid, "a line\n")
    handle.wait(on_stdout=heard.append)
    equal("".join(heard), "first\ngot a line\n")

    counting = sandbox.commands.run("wc -c", background=True, stdin=True)
    sandbox.commands.stream_input(counting.pid, (b"x" * 1000 for _ in range(50)))
    sandbox.commands.close_stdin(counting.pid)
    equal(counting.wait().stdout, "50000\n")

    sleeping = sandbox.commands.run("sleep 600", background=True)
    assert sleeping.pid in [process.pid for process in sandbox.commands.list()]
    equal(sandbox.commands.kill(sleeping.pid), True)
    with raises(CommandExitException):
        sleeping.wait()
    equal(sandbox.commands.kill(sleeping.pid), False)


@check
def files_are_written_read_listed_moved_and_removed(sandbox):
    files = sandbox.files
    equal(files.write("deep/note.txt", "grüße").path, "/home/user/deep/note.txt")
    equal(files.read("deep/note.txt"), "grüße")
    content = bytes(range(256)) * 5000
    for options in ({}, {"gzip": True}, {"use_octet_stream": True}):
        files.write("/tmp/binary", content, **options)
        equal(bytes(files.read("/tmp/binary", format="bytes")), content)
    equal(b"".join(files.read("/tmp/binary", format="stream")), content)
    files.write_files([{"path": "/tmp/many/a", "data": "a"}, {"path": "/tmp/many/b", "data": b"b"}])
    equal(sorted(entry.name for entry in files.list("/tmp/many")), ["a", "b"])
    files.write("/tmp/labelled", "x", metadata={"colour": "red"})
    equal(files.get_info("/tmp/labelled").metadata, {"colour": "red"})
    equal((files.make_dir("/tmp/made"), files.make_dir("/tmp/made")), (True, False))
    equal(files.rename("/tmp/many/a", "/tmp/made/c").name, "c")
    files.remove("/tmp/many")
    equal((files.exists("/tmp/many"), files.exists("/tmp/made/c")), (False, True))
    with raises(FileNotFoundException):
        files.read("/tmp/many/a")


@check
def a_watcher_tells_what_happened_when_it_is_asked(sandbox):
    sandbox.files.make_dir("/tmp/watched/below")
    watcher = sandbox.files.watch_dir("/tmp/watched", recursive=True)
    sandbox.files.write("/tmp/watched/below/file", "x")
    seen = []

    def written():
        seen.extend(watcher.get_new_events())
        return any(event.name == "below/file" and event.type == FilesystemEventType.WRITE for event in seen)

    until(written)
    watcher.stop()


@check
def a_terminal_takes_keys_and_a_size(sandbox):
    terminal = sandbox.pty.create(PtySize(rows=30, cols=100))
    sandbox.pty.send_stdin(terminal.pid, b"stty size; echo $((6 * 7))-here\n")
    shown = b""
    for _, _, data in terminal:
        shown += data or b""
        if b"30 100" in shown and b"42-here" in shown:
            break
    sandbox.pty.resize(terminal.pid, PtySize(rows=50, cols=132))
    equal(sandbox.pty.kill(terminal.pid), True)


@check
def signed_urls_work(sandbox):
    sandbox.files.write("/home/user/signed.txt", "by a signed URL")
    url = sandbox.download_url("/home/user/signed.txt", use_signature_expiration=60)
    if "E2B_SANDBOX_URL" in os.environ:
        # Such a URL does not say of which sandbox it is.
        fetched = fetch(url, {"Host": sandbox.get_host(49983)})
    else:
        fetched = fetch(url, {})
    equal(fetched, (200, "by a signed URL"))
    headers = {"Host": sandbox.get_host(49983)}
    equal(fetch(url.replace("signed.txt", ".bashrc"), headers)[0], 401)


look_up = socket.getaddrinfo


def look_up_here(host, *rest, **options):
    """Python asks the C library, which in a minimal Debian does not know what `*.localhost` means. The e2b package knows."""
    return look_up("127.0.0.1" if str(host).endswith(".localhost") else host, *rest, **options)


socket.getaddrinfo = look_up_here


def fetch(url, headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@check
def a_sandbox_is_described_listed_and_measured(sandbox):
    info = sandbox.get_info()
    equal((info.sandbox_id, info.name, info.state), (sandbox.sandbox_id, "base", SandboxState.RUNNING))
    equal(info.metadata, {"by": "python"})
    paginator = Sandbox.list(query=SandboxQuery(metadata={"by": "python"}))
    assert sandbox.sandbox_id in [each.sandbox_id for each in paginator.next_items()]
    assert sandbox.get_metrics()[-1].mem_total > 0
    sandbox.set_timeout(500)
    left = (sandbox.get_info().end_at - info.started_at).total_seconds()
    assert left < 600, left
    equal(sandbox.is_running(), True)


@check
def a_pause_keeps_memory_and_a_connect_resumes(sandbox):
    sandbox.files.write("/dev/shm/kept.txt", "in memory")
    equal(sandbox.pause(), True)
    equal(sandbox.pause(), False)
    equal(sandbox.get_info().state, SandboxState.PAUSED)
    again = Sandbox.connect(sandbox.sandbox_id)
    equal(again.files.read("/dev/shm/kept.txt"), "in memory")
    equal(again.commands.run("echo on").stdout, "on\n")


@check
def a_fork_and_a_snapshot_have_what_was_in_memory(sandbox):
    sandbox.files.write("/dev/shm/shared.txt", "of the source")
    [copy] = sandbox.fork(count=1)
    try:
        equal(copy.files.read("/dev/shm/shared.txt"), "of the source")
    finally:
        copy.kill()
    name = f"python-{sandbox.sandbox_id}"
    snapshot = sandbox.create_snapshot(name=name)
    equal(snapshot.snapshot_id, f"{name}:default")
    assert name in str([each.names for each in sandbox.list_snapshots().next_items()])
    restored = Sandbox.create(name)
    try:
        equal(restored.files.read("/dev/shm/shared.txt"), "of the source")
    finally:
        restored.kill()
    equal((Sandbox.delete_snapshot(name), Sandbox.delete_snapshot(name)), (True, False))


@check
def what_this_server_cannot_do_is_refused(sandbox):
    for call in (
        lambda: sandbox.create_snapshot(mode="filesystem"),
        lambda: sandbox.pause(strict=True),
        lambda: sandbox.update_network({"dns_servers": ["1.1.1.1"]}),
    ):
        with raises(SandboxException):
            call()
    equal(sandbox.get_info().state, SandboxState.RUNNING)


@check
def the_asynchronous_client_reaches_it_too(sandbox):
    async def run():
        joined = await AsyncSandbox.connect(sandbox.sandbox_id)
        results = await asyncio.gather(*(joined.commands.run(f"echo {n}") for n in range(5)))
        return [result.stdout for result in results]

    equal(asyncio.run(run()), ["0\n", "1\n", "2\n", "3\n", "4\n"])


@check
def a_kill_ends_it_once(sandbox):
    equal((sandbox.kill(), sandbox.kill()), (True, False))
    equal(sandbox.is_running(), False)
    with raises(SandboxNotFoundException):
        Sandbox.connect(sandbox.sandbox_id)


def main():
    sandbox = Sandbox.create("base", timeout=600, metadata={"by": "python"}, envs={"COLOUR": "blue"})
    for function in CHECKS:
        try:
            function(sandbox)
            error = None
        except Exception:
            error = traceback.format_exc()
        print(json.dumps({"name": function.__name__.replace("_", " "), "error": error}), flush=True)


main()
