# Sourced by run and test: installs what is missing, and says so. Fast when nothing is.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${RINGSPAN_VENV:-$ROOT/.venv}
SYSTEM_PYTHON=/usr/bin/python3 # BCC's Python module is Debian's, for Debian's Python

say() { echo "ringspan: $*" >&2; }

# Run quietly; on failure show what was said, and stop.
quietly() {
	local output
	if ! output=$("$@" 2>&1); then
		echo "$output" >&2
		say "failed: $*"
		exit 1
	fi
}

installed() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

need_packages() {
	local missing=() package
	for package in "$@"; do
		installed "$package" || missing+=("$package")
	done
	[ ${#missing[@]} -eq 0 ] && return
	if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
		say "missing packages: ${missing[*]}; run as root on Debian or a relative of it, or install them by hand"
		exit 3
	fi
	say "installing ${missing[*]} (apt-get)"
	export DEBIAN_FRONTEND=noninteractive
	quietly apt-get update -q
	quietly apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# What tests/kernels boots other kernels with.
need_lab_packages() { need_packages qemu-system-x86 qemu-system-arm busybox-static cpio kmod; }

# need_venv EXTRAS: (re)make the virtual environment when pyproject.toml has changed since, or the wanted extras.
need_venv() {
	local stamp="$VENV/.ringspan-installed" wanted
	wanted="$1 $(cksum <"$ROOT/pyproject.toml")"
	[ -x "$VENV/bin/ringspan" ] && grep -qxF -- "$wanted" "$stamp" 2>/dev/null && return
	say "installing Python packages into $VENV (pip)"
	[ -x "$VENV/bin/python" ] || quietly "$SYSTEM_PYTHON" -m venv --system-site-packages "$VENV"
	quietly "$VENV/bin/python" -m pip install --disable-pip-version-check -q -e "$ROOT$1"
	echo "$wanted" >>"$stamp"
}
