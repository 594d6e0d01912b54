#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Programs from Debian that have a file mapped, which is shrunk under them.

usage: shrink.py PROGRAM COMMAND...

Runs PROGRAM (rg, ag, b3sum, sqlite3 or git) as it is, and then by way of COMMAND,
in the current directory, which has to be empty. Shrinks its file while it is
mapped. Exits with 0 if the first time SIGBUS has killed PROGRAM, and the second
time it ended by itself and said what it can say about such a file. Exits with 1
and words on stderr otherwise.
"""

import array
import fcntl
import os
import re
import signal
import subprocess
import sys
import termios
import time

LIMIT = 60
PIPE = 1 << 16
# Five times what fits into a pipe.
LINES = 25000


def line(number):
    return f"needle {number}\n"


class TooEarly(SystemExit):
    """The program has ended before something that was waited for."""


class Program:
    def __init__(self, *command):
        self.process = subprocess.Popen(
            prefix + list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=open("stderr", "wb"))

    def proc(self, name):
        return f"/proc/{self.process.pid}/{name}"

    def wait_until(self, what, condition):
        end = time.monotonic() + LIMIT
        while not condition():
            if self.process.poll() is not None:
                raise TooEarly(f"it ended too early, before {what}: {said()}")
            if time.monotonic() > end:
                self.process.kill()
                sys.exit(f"still not {what} after {LIMIT} s")
            # It may need the CPU.
            time.sleep(0.001)

    def has_mapped(self, path):
        with open(self.proc("maps"), encoding="utf-8") as maps:
            return os.path.realpath(path) in maps.read()

    def is_stopped(self):
        def state(task):
            with open(self.proc(f"task/{task}/stat"), encoding="utf-8") as stat:
                return stat.read().rpartition(")")[2].split()[0]
        return all(state(task) in "Tt" for task in os.listdir(self.proc("task")))

    def has_said(self):
        size = array.array("i", [0])
        fcntl.ioctl(self.process.stdout, termios.FIONREAD, size)
        return size[0]

    def shrink_stopped(self, path, size):
        """Shrinks the file when it is mapped, whatever the program does then."""
        self.wait_until("has mapped it", lambda: self.has_mapped(path))
        self.process.send_signal(signal.SIGSTOP)
        self.wait_until("stopped", self.is_stopped)
        os.truncate(path, size)
        self.process.send_signal(signal.SIGCONT)

    def shrink(self, path):
        """Shrinks the file of a program that waits."""
        assert self.has_mapped(path), "it has not mapped its file"
        os.truncate(path, 0)

    def ask(self, text):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def answer(self):
        return self.process.stdout.readline().decode().rstrip("\n")

    def rest(self):
        """What it says to its end, if that is its own and not a signal's."""
        try:
            output, _ = self.process.communicate(timeout=LIMIT)
        except BrokenPipeError:
            output = b""
        status = self.process.wait()
        if status < 0:
            sys.exit(128 - status)
        return status, output.decode(errors="replace")


def said():
    with open("stderr", encoding="utf-8", errors="replace") as text:
        return text.read()


def must(condition, *what):
    if not condition:
        sys.exit(" ".join(map(str, what)))


def finds(*command):
    """A tool that finds all lines. Its output fills the pipe, and it has to wait."""
    with open("text", "w", encoding="utf-8") as text:
        text.writelines(map(line, range(LINES)))
    program = Program(*command)
    program.wait_until("its output fills the pipe", lambda: program.has_said() >= PIPE // 2)
    program.shrink("text")
    status, output = program.rest()
    lines = output.splitlines(keepends=True)
    found = 0
    while found < len(lines) and lines[found] == line(found):
        found += 1
    must(status == ENDS and 100 < found < LINES, "status", status, "and", found, "lines:", said())
    # What follows are zeros, where it does not say that this is no text.
    rest = "".join(lines[found:])
    must("needle" not in rest or rest.startswith("needle"), "after them:", rest[:200])


def rg():
    finds("rg", "--no-config", "--mmap", "-N", "--color=never", "needle", "text")


def ag():
    finds("ag", "--nonumbers", "--nocolor", "--nofilename", "--mmap", "needle", "text")


def b3sum():
    """Of zeros, so that stand-ins have the same checksum.

    A fast machine may have read all of a file before the program is stopped, and takes a larger one.
    """
    for size in (16 << 20, 128 << 20, 1 << 30):
        with open("zeros", "wb") as zeros:
            zeros.truncate(size)
        program = Program("b3sum", "--num-threads", "1", "zeros")
        try:
            program.shrink_stopped("zeros", 4096)
        except TooEarly:
            continue
        status, output = program.rest()
        if status == 0:
            continue
        os.truncate("zeros", size)
        expected = subprocess.run(["b3sum", "--no-mmap", "zeros"], check=True,
                                  capture_output=True).stdout.decode()
        must(status == ENDS and output == expected, "status", status, output, said())
        return
    sys.exit("it is never stopped in time")


def sqlite3():
    """In a transaction, so that it relies on the file."""
    rows = 1000
    subprocess.run(
        ["sqlite3", "base", "CREATE TABLE t(x); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL "
         f"SELECT i + 1 FROM n WHERE i < {rows}) INSERT INTO t SELECT hex(zeroblob(200)) FROM n;"],
        check=True)
    program = Program("sqlite3", "-batch", "base")
    program.ask("PRAGMA mmap_size=268435456;")
    must(program.answer() == "268435456", "no mmap_size")
    program.ask("BEGIN; SELECT count(*) FROM t;")
    must(program.answer() == str(rows), "not all rows")
    program.shrink("base")
    program.ask("SELECT sum(length(x)) FROM t;")
    status, output = program.rest()
    must(status == 1 and output == "" and "database disk image is malformed" in said(),
         "status", status, output, said())


def git():
    blobs = [line(number) for number in range(3)]
    subprocess.run(["git", "init", "-q", "."], check=True, capture_output=True)
    # All objects are in a pack, which this makes in one step. It prints their names.
    made = subprocess.run(
        ["git", "-c", "fastimport.unpackLimit=1", "fast-import", "--quiet"], check=True,
        capture_output=True, input="".join(
            f"blob\nmark :{number + 1}\ndata {len(blob)}\n{blob}\nget-mark :{number + 1}\n"
            for number, blob in enumerate(blobs)).encode())
    _, one, other = made.stdout.decode().split()
    (index,) = [f".git/objects/pack/{name}" for name in os.listdir(".git/objects/pack")
                if name.endswith(".idx")]
    os.chmod(index, 0o600)

    program = Program("git", "cat-file", "--batch-check")
    program.ask(one)
    must(program.answer() == f"{one} blob {len(line(1))}", "not the object")
    program.shrink(index)
    program.ask(other)
    answer = program.answer()
    status, _ = program.rest()
    must(status == ENDS and answer == f"{other} missing", "status", status, answer, said())


CASES = (rg, ag, b3sum, sqlite3, git)


def main():
    """As it is and by way of COMMAND, each in a process and a directory of its own."""
    global prefix, ENDS  # pylint: disable=global-statement
    name, *command = sys.argv[1:]
    case = {f.__name__: f for f in CASES}[name]
    for prefix, expected in ([], 128 + signal.SIGBUS), (command, 0):
        child = os.fork()
        if child == 0:
            break
        _, status = os.waitpid(child, 0)
        status = os.waitstatus_to_exitcode(status)
        must(status == expected, " ".join(prefix) or "as it is", "it ends with", status)
    else:
        return
    # EX_DATAERR, which nosigbus run puts in the place of 0.
    ENDS = 65 if prefix else 0
    directory = "protected" if prefix else "plain"
    os.mkdir(directory)
    os.chdir(directory)
    case()
    must(not prefix or "accessed behind its end (cut off?)" in said(), "it says nothing:", said())
    must("--stats" not in prefix or re.search(", [1-9][0-9]* had lost pages", said()),
         "no page was lost:", said())


if __name__ == "__main__":
    main()
