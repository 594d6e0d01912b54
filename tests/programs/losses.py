#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Programs from Debian that write to a full file system, or read a file that is cut off, by a mapping.

usage: losses.py CASE [COMMAND...]

Runs the program of CASE (see below) in the current directory, which has to be empty and on a small
file system, by way of COMMAND if one is given. Prints what comes of it, in one line:

    STATUS VERDICT

STATUS is the program's exit status, or 128 plus the signal that has killed it. VERDICT is "right" if
what it has written, or printed, is what it should be, and "wrong" otherwise. What it says on stderr
follows.
"""

import os
import shutil
import subprocess
import sys
import time

LIMIT = 240
# Not where there is no space.
STDERR = "/tmp/losses.stderr"
PAGE = os.sysconf("SC_PAGESIZE")


def run(*command, **more):
    """Of the program, by way of COMMAND."""
    return subprocess.run(prefix + list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=open(STDERR, "wb"), timeout=LIMIT, check=False, **more)


def tool(*command, **more):
    return subprocess.run(command, check=True, capture_output=True, timeout=LIMIT, **more).stdout


def fill_but(size):
    """Leaves so many bytes of the file system."""
    with open("filler", "wb", buffering=0) as filler:
        stat = os.fstatvfs(filler.fileno())
        os.posix_fallocate(filler.fileno(), 0, stat.f_bavail * stat.f_frsize - size)


def content(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def cut_when_mapped(path, size, *command):
    """Runs the program, and cuts the file off as soon as it has it mapped."""
    program = subprocess.Popen(prefix + list(command), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=open(STDERR, "wb"))
    end = time.monotonic() + LIMIT
    real = os.path.realpath(path)
    while program.poll() is None and time.monotonic() < end:
        try:
            with open(f"/proc/{program.pid}/maps", encoding="utf-8", errors="replace") as maps:
                if real in maps.read():
                    os.truncate(path, size)
                    break
        except (FileNotFoundError, ProcessLookupError):
            pass
    output, _ = program.communicate(timeout=LIMIT)
    return subprocess.CompletedProcess(command, program.returncode, output)


def numpy():
    """open_memmap, as numerical programs write large arrays."""
    fill_but(64 * PAGE)
    done = run("python3", "-c", f"""
import numpy
array = numpy.lib.format.open_memmap("array.npy", mode="w+", dtype="u1", shape=({256 * PAGE},))
array[:] = 7
array.flush()
print("done")
""")
    return done, content("array.npy").count(7) >= 256 * PAGE


def numpy_no_flush():
    fill_but(64 * PAGE)
    done = run("python3", "-c", f"""
import numpy
array = numpy.lib.format.open_memmap("array.npy", mode="w+", dtype="u1", shape=({256 * PAGE},))
array[:] = 7
print("done")
""")
    return done, content("array.npy").count(7) >= 256 * PAGE


def shared_memory():
    """What multiprocessing hands from process to process."""
    tool("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/dev/shm")
    done = run("python3", "-c", """
import os, sys
from multiprocessing import shared_memory
memory = shared_memory.SharedMemory(create=True, size=1 << 20)
memory.buf[:] = bytes([7]) * (1 << 20)
child = os.fork()
if child == 0:
    other = shared_memory.SharedMemory(name=memory.name)
    print(bytes(other.buf[:]).count(7), flush=True)
    os._exit(0)
os.waitpid(child, 0)
memory.close()
memory.unlink()
""")
    tool("umount", "/dev/shm")
    return done, done.stdout == b"%d\n" % (1 << 20)


def java():
    """A program that writes its output by a mapping, and has it written back."""
    with open("Write.java", "w", encoding="utf-8") as source:
        source.write("""
import java.nio.*; import java.nio.channels.*; import java.nio.file.*;
public class Write {
    public static void main(String[] args) throws Exception {
        FileChannel file = FileChannel.open(Path.of("output"), StandardOpenOption.CREATE,
            StandardOpenOption.READ, StandardOpenOption.WRITE);
        int size = %d;
        MappedByteBuffer map = file.map(FileChannel.MapMode.READ_WRITE, 0, size);
        byte[] sevens = new byte[size];
        java.util.Arrays.fill(sevens, (byte) 7);
        map.put(sevens);
        map.force();
        System.out.println("done");
    }
}
""" % (256 * PAGE))
    os.makedirs("/tmp/java", exist_ok=True)
    tool("javac", "-d", "/tmp/java", "Write.java")
    fill_but(64 * PAGE)
    done = run("java", "-Xint", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-cp", "/tmp/java", "Write")
    return done, content("output").count(7) == 256 * PAGE


def large_object():
    with open("/tmp/part.c", "w", encoding="utf-8") as source:
        source.write(f"char data[{1 << 20}] = {{ [0 ... {(1 << 20) - 1}] = 7 }};")
    tool("gcc", "-c", "-o", "/tmp/part.o", "/tmp/part.c")


def lld():
    """A linker maps its output."""
    large_object()
    tool("ld.lld-19", "-r", "-o", "/tmp/right", "/tmp/part.o")
    fill_but(64 * PAGE)
    done = run("ld.lld-19", "-r", "-o", "output", "/tmp/part.o")
    return done, content("output") == content("/tmp/right")


def rrdtool():
    """A round-robin database is updated by a mapping. Its file has holes, for which there is no space."""
    updates = [f"{1000000000 + i}:{i}" for i in range(1, 2000)]
    tool("rrdtool", "create", "/tmp/right.rrd", "--start", "1000000000", "--step", "1",
         "DS:x:GAUGE:10:U:U", "RRA:AVERAGE:0.5:1:20000")
    with open("sparse.rrd", "wb") as sparse:
        sparse.write(content("/tmp/right.rrd")[:PAGE])
        sparse.truncate(os.path.getsize("/tmp/right.rrd"))
    shutil.copy("sparse.rrd", "/tmp/right.rrd")
    tool("rrdtool", "update", "/tmp/right.rrd", *updates)
    fill_but(0)
    done = run("rrdtool", "update", "sparse.rrd", *updates)
    return done, content("sparse.rrd") == content("/tmp/right.rrd")


def lrzip():
    """A compressor that maps its input."""
    with open("input", "wb") as file:
        for i in range(200000):
            file.write(b"%d\n" % i)
    right = content("input")
    done = cut_when_mapped("input", PAGE, "lrzip", "-n", "-q", "-f", "-o", "output", "input")
    if os.path.exists("output"):
        subprocess.run(["lrzip", "-d", "-q", "-f", "-o", "unpacked", "output"], check=False,
                       capture_output=True)
    return done, content("unpacked") == right


def vips():
    """An image is mapped and averaged."""
    tool("vips", "black", "/tmp/black.v", "4000", "4000")
    tool("vips", "linear", "/tmp/black.v", "/tmp/image.v", "1", "100")
    done = cut_when_mapped("/tmp/image.v", PAGE, "vips", "avg", "/tmp/image.v")
    return done, done.stdout.startswith(b"100.0")


def lmdb():
    """A database that is read by a mapping."""
    os.mkdir("base")
    records = "".join(f" key{i:06}\n {'x' * 100}\n" for i in range(2000))
    subprocess.run(
        ["mdb_load", "base"], input=("VERSION=3\nformat=print\ntype=btree\nmapsize=2097152\n"
                                     "HEADER=END\n" + records + "DATA=END\n").encode(),
        check=True, capture_output=True)
    right = tool("mdb_dump", "base")
    done = cut_when_mapped("base/data.mdb", 3 * PAGE, "mdb_dump", "base")
    return done, done.stdout == right


CASES = (numpy, numpy_no_flush, shared_memory, java, lld, rrdtool, lrzip, vips, lmdb)

if __name__ == "__main__":
    name, prefix = sys.argv[1], sys.argv[2:]
    done, right = {case.__name__: case for case in CASES}[name]()
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    print(status, "right" if right else "wrong")
    with open(STDERR, encoding="utf-8", errors="replace") as text:
        print(text.read(), end="")
