# Functions of the scripts beside it, which source it. Each script works in the folder $work, which is deleted at its end.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CI=true
unset PYTHONDONTWRITEBYTECODE # with it, as in many images, each of the suite's processes would compile torch again
export PIP_COMPILE=0 # compiling what is imported takes 30 s less than compiling all that is installed

work=$(mktemp -d)
set -m # a background job is a process group of its own, so that it can be ended with all that it started
trap 'jobs -p | while read -r job; do kill -- "-$job" 2>/dev/null || true; done; rm -rf "$work"' EXIT

step() { printf '\n== %s\n' "$*"; }

# Make the virtual environment NAME and use it from now on.
environment() {
    python3 -m venv "$work/$1"
    use "$1"
}
use() { export PATH="$work/$1/bin:$PATH"; }

# Run the README's command NAME.
readme() {
    local command
    command=$(python .ci/readme_command "$1")
    step "README, $1: $command"
    bash -euo pipefail -c "$command"
}

# Install Debian's Chromium, in which tests open the HTML page, if it is missing and can be installed; else they skip.
browser() {
    if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then return; fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then return; fi
    step "chromium"
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver; } >"$work/apt.log" 2>&1 ||
        { tail -n 3 "$work/apt.log"; echo "the tests of the HTML page are skipped: Chromium could not be installed"; }
}
