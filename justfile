# Short names for the project's commands. Each calls the same script or cargo command that CI and people without
# `just` call.

# Lists the recipes
default:
    @just --list

# Everything that CI runs
ci:
    .ci/run

# Formats the code
fmt:
    cargo fmt --all

# Format and lints, without changing anything
lint:
    .ci/run fmt lint

# All tests; arguments go to the script
test *args:
    scripts/test {{ args }}

# The API's documentation, private items included
doc:
    .ci/run doc

# Licences, duplicates and origins of the packages in the tree
deny:
    .ci/run deny

# The main job end to end, in a temporary folder
demo *args:
    cargo run --release --locked -- demo {{ args }}

# Every figure of docs/BENCHMARKS.md
bench *args:
    scripts/bench {{ args }}

# Each fuzz target for a short while
fuzz-smoke:
    scripts/fuzz-smoke

# Makes the sealed vectors again, which must not change them, and checks all of them with other people's software
vectors:
    #!/usr/bin/env bash
    set -euo pipefail
    python=$(scripts/venv)
    "$python" tests/vectors/make_vectors.py
    git diff --exit-code -- tests/vectors
    "$python" tests/vectors/check_with_tink.py
    "$python" tests/vectors/check_with_jwcrypto.py

# The container image
docker tag="motorcade":
    docker build --tag {{ tag }} .
