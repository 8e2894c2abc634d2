#!/bin/bash
# Runs in a guest: guest.sh PYTHON CAPTURE...; leaves CAPTURE.xml (JUnit) and CAPTURE.ledger in $LAB_JOB.
python=$1
shift
export RINGSPAN_TEST_SLOWNESS=8 PYTHONDONTWRITEBYTECODE=1
for name in build source; do
	[ -e "/lib/modules/$(uname -r)/$name" ] && echo "there are kernel headers: none are to be needed" && exit 1
done
whole=
[ $# -lt 3 ] || whole=whole
case "$(uname -m) $(uname -r)" in # what TLS libraries are called for is seen beside one capture of each kernel
x86_64\ 5.10.* | x86_64\ 6.12.*) with_tls=kprobe ;;
*) with_tls=fentry ;;
esac
for capture in "$@"; do
	files="tests/e2e/test_protocol_cases.py tests/e2e/test_failures.py tests/e2e/test_odd_calls.py tests/e2e/test_captures.py"
	tls=off
	[ "$capture" != $with_tls ] || {
		tls=auto
		files="$files tests/e2e/test_tls.py::test_fifty_connections_at_once[nginx]"
	}
	case "$whole $(uname -r)" in whole\ 6.1.*)
		files="$files tests/kernels/guest_kernel_tls.py"
		[ "$capture" = syscall ] || files="$files tests/kernels/guest_https.py tests/kernels/guest_switches.py"
		;;
	esac
	echo "== $capture on $(uname -r)"
	RINGSPAN_TEST_CAPTURE=$capture RINGSPAN_TEST_TLS=$tls "$python" -m pytest -q -p no:cacheprovider --timeout 400 --durations=6 --junitxml="$LAB_JOB/$capture.xml" \
		$files --deselect tests/e2e/test_captures.py::test_what_io_uring_moves_is_counted_where_it_is_not_seen
done
