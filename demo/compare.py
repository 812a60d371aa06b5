"""Compares plain directories without any of standbyfs: what a person with ls, stat and sha256sum would do."""

import hashlib
import os
import stat
from pathlib import Path


def describe(root):
    """Returns {path: facts} for root and everything below it: type, mode, owner, size, mtime in nanoseconds, xattrs, content, link text, and which names are one file."""
    root = Path(root)
    facts, names = {}, {}
    for directory, dirs, files in os.walk(root):
        for name in [".", *dirs, *files] if Path(directory) == root else dirs + files:
            path = Path(directory, name)
            st = path.lstat()
            relative = str(path.relative_to(root))
            fact = {
                "type": stat.filemode(st.st_mode)[0], "mode": oct(stat.S_IMODE(st.st_mode)),
                "owner": (st.st_uid, st.st_gid), "device": st.st_rdev, "mtime": st.st_mtime_ns,
                "xattrs": {key: os.getxattr(path, key, follow_symlinks=False) for key in sorted(os.listxattr(path, follow_symlinks=False))},
            }
            if stat.S_ISREG(st.st_mode):
                fact["size"] = st.st_size
                with open(path, "rb") as f:
                    fact["content"] = hashlib.file_digest(f, "sha256").hexdigest()
            elif stat.S_ISLNK(st.st_mode):
                fact["text"] = os.readlink(path)
            if not stat.S_ISDIR(st.st_mode):
                fact["links"] = names.setdefault(st.st_ino, set())
                fact["links"].add(relative)
            facts[relative] = fact
    return facts


def differences(one, other):
    """Returns a sentence for each difference between two directories."""
    a, b = describe(one), describe(other)
    found = [f"{path} is only in {one if path in a else other}" for path in sorted(a.keys() ^ b.keys())]
    for path in sorted(a.keys() & b.keys()):
        for key in sorted(a[path].keys() | b[path].keys()):
            left, right = a[path].get(key), b[path].get(key)
            if left != right:
                found.append(f"{path}: {key} is {left} in {one}, {right} in {other}")
    return found


def size(root):
    """Returns (number of objects, bytes in files) below root."""
    facts = describe(root)
    return len(facts) - 1, sum(fact.get("size", 0) for fact in facts.values())
