#!/bin/sh
# pytest-xdist 3.8.0 with pytest 9.2.0 and 9.1.1, Python 3.11 (November 2026).
# With `--dist loadgroup` tests that are marked with the same `xdist_group` go to one worker. With pytest 9.2.0 they go to
# any, and nothing says so: xdist appends the group to the attribute `_nodeid` of a test, which pytest no longer reads.
# Seen: pytest 9.1.1: the 6 tests of a group ran in 1 worker(s)
#       pytest 9.2.0: the 6 tests of a group ran in 2 worker(s)
# Fails if that changes. Runs without nightlab. Needs python3 with venv and pip.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/test_group.py" <<'PYTHON'
import os
import time

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(6))
def test_it(number):
    time.sleep(0.5)
    with open(os.environ["WORKERS"], "a") as file:
        print(os.environ["PYTEST_XDIST_WORKER"], file=file)
PYTHON
for version in 9.1.1 9.2.0; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install --quiet pytest==$version pytest-xdist==3.8.0
  (cd "$folder" && WORKERS="$folder/workers-$version" "$folder/$version/bin/python" -m pytest -q -n 2 --dist loadgroup \
    test_group.py >/dev/null)
  echo "pytest $version: the $(wc -l < "$folder/workers-$version") tests of a group ran in" \
    "$(sort -u "$folder/workers-$version" | wc -l) worker(s)"
done
test "$(sort -u "$folder/workers-9.1.1" | wc -l)" = 1
test "$(sort -u "$folder/workers-9.2.0" | wc -l)" = 2
