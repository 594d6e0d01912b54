#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
#
# A file system whose server opens its only file, "file", and answers nothing that is asked
# of it then: no fstat, no fstatfs, no read, no close. Says "serving" once it is mounted, and
# "unanswered: OPCODE" of each question that it leaves open. As root, until it is killed.
#
# --direct-io: the file is opened for direct I/O. When it is mapped, the kernel then waits for the
# pages that somebody reads.
#
# usage: silent-fuse.py [--direct-io] DIRECTORY

import ctypes
import os
import stat
import struct
import sys

# From include/uapi/linux/fuse.h.
LOOKUP, FORGET, OPEN, INIT, INTERRUPT, BATCH_FORGET = 1, 2, 14, 26, 36, 42
IN_HEADER = struct.Struct("IIQQIIIHH")
OUT_HEADER = struct.Struct("IiQ")
INIT_OUT = struct.Struct("IIIIHHIIHHIIH22x")
ENTRY_OUT = struct.Struct("QQQQII" + "QQQQQQ" + "IIIIIIIIII")
OPEN_OUT = struct.Struct("QII")

FOPEN_DIRECT_IO = 1

SIZE = 1 << 24
FOR_EVER = 1 << 30


def mount(device, directory):
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"silent", os.fsencode(directory), b"fuse", 0, options.encode()):
        error = ctypes.get_errno()
        sys.exit(f"mount: {os.strerror(error)}")


def init():
    return INIT_OUT.pack(7, 31, 1 << 16, 0, 16, 12, 1 << 16, 1, 16, 0, 0, 0, 0)


def lookup():
    # Its name stays; what stat tells of it has to be asked for each time.
    entry = (2, 0, FOR_EVER, 0, 0, 0)
    attributes = (2, SIZE, SIZE // 512, 0, 0, 0)
    mode = stat.S_IFREG | 0o666
    return ENTRY_OUT.pack(*entry, *attributes, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def main():
    *options, directory = sys.argv[1:]
    flags = FOPEN_DIRECT_IO if options == ["--direct-io"] else 0
    device = os.open("/dev/fuse", os.O_RDWR)
    mount(device, directory)
    print("serving", flush=True)
    answers = {INIT: init, LOOKUP: lookup, OPEN: lambda: OPEN_OUT.pack(1, flags, 0)}
    while True:
        request = os.read(device, 1 << 18)
        _, opcode, unique, *_ = IN_HEADER.unpack_from(request)
        if opcode in answers:
            body = answers[opcode]()
            os.write(device, OUT_HEADER.pack(OUT_HEADER.size + len(body), 0, unique) + body)
        elif opcode not in (FORGET, INTERRUPT, BATCH_FORGET):
            print(f"unanswered: {opcode}", flush=True)


if __name__ == "__main__":
    main()
