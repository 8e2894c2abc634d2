"""A capture's programs, from compiled to attached; and which captures a kernel allows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial

from ringspan.errors import CannotTrace
from ringspan.probe import btf, captures, load, preemption, switches, tls_functions
from ringspan.probe.captures import FENTRY, FOLLOWING, KPROBE, Capture, Hook
from ringspan.probe.compiler import Compiled

ARRAY_ENTRIES = 16
TRIED = "tcp_sendmsg"
EVENT = "event"
NUMBER = 0x746C7366756E6374  # which stands in programs of several functions (number_here in copies.h)
TLS = "tls"
ATOMICS = f"-D{btf.FUNCTIONS['bpf_for_each_map_elem']}"
Links = Iterator[tuple[str, int]]  # names and descriptors, attached as they are asked for


def variant(code: bytes, number: int) -> bytes:
    """Return the instructions of a program at several functions for one of them."""
    low, high = NUMBER.to_bytes(8, "little")[:4], NUMBER.to_bytes(8, "little")[4:]
    return code.replace(low + bytes(4) + high, number.to_bytes(4, "little") + bytes(8))


class Programs:
    """Programs on their way through the verifier; those that call each other share a kind, and a map of programs."""

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self._map_fd = compiled.program["programs"].map_fd
        self._pool = ThreadPoolExecutor(2)
        self._loading: dict[str, Future[int]] = {}
        self.arrays: dict[load.Kind, int] = {load.Kind(load.RAW_TRACEPOINT): self._map_fd}

    def _array(self, kind: load.Kind) -> int:
        if kind not in self.arrays:
            self.arrays[kind] = load.make_program_array(ARRAY_ENTRIES)
        return self.arrays[kind]

    def add(self, name: str, kind: load.Kind, place: str = "", copies: int = 1, number: int = 0) -> None:
        """Begin to load a program, and copies of it, once for each place that has programs of its own."""
        for copy in range(copies):
            known = _key(name, place, copy)
            if known not in self._loading:
                code = load.with_map(self._compiled.code(name), self._map_fd, self._array(kind))
                code = load.as_copy(variant(code, number) if number else code, copy)
                self._loading[known] = self._pool.submit(load.load, name, code, kind)

    def fd(self, name: str, place: str = "", copy: int = 0) -> int:
        """Return a loaded program's descriptor; raises CannotTrace with the verifier's words."""
        return self._loading[_key(name, place, copy)].result()

    def enter(self, names: Iterable[str], kind: load.Kind, place: str = "") -> None:
        """Enter programs in the map through which those of their kind call them."""
        from ringspan.probe import maps  # noqa: PLC0415 - numpy's threads must not begin before privileges are given up

        for name in names:
            index = captures.TAIL_CALLED.index(name)
            maps.update(self._array(kind), index.to_bytes(4, "little"), self.fd(name, place).to_bytes(4, "little"))

    def all(self) -> dict[str, int]:
        """Return all descriptors by name."""
        return {name: future.result() for name, future in self._loading.items()}


def _key(name: str, place: str, copy: int) -> str:
    return name + (f"@{place}" if place else "") + (f" {copy + 1}" if copy else "")


class Attacher:
    """Loads and attaches what a capture consists of."""

    def __init__(self, compiled: Compiled, capture: Capture, *, tls: bool) -> None:
        self._tls = tls
        self._capture = capture
        self._types = compiled.types
        self._copied = compiled.copied
        self.programs = Programs(compiled)
        self._raw = load.Kind(load.RAW_TRACEPOINT)
        self._event = load.Kind(load.TRACEPOINT)
        self._events = capture.events if load.RAW_TRACEPOINT in compiled.copied else {}
        self._hooks = [hook for hook in capture.hooks if hook.function in self._types.functions]

    def _kind(self, hook: Hook, *, at_return: bool) -> load.Kind:
        if self._capture is KPROBE:
            return load.Kind(load.KPROBE)
        where = load.FEXIT if at_return else load.FENTRY
        return load.Kind(load.TRACING, where, self._types.functions[hook.function].id)

    def _place(self, hook: Hook) -> str:
        """Tracing programs are of one function alone."""
        return hook.function if self._capture is FENTRY else ""

    def _copies(self, name: str, kind: load.Kind) -> int:
        return preemption.COPIES if kind.type in self._copied and name not in captures.ONCE else 1

    def load(self) -> None:
        """Load all programs; raises CannotTrace with the verifier's words."""
        try:
            self._load()
        except OSError as error:
            raise CannotTrace(f"cannot load: {error.strerror or error}", "see ringspan doctor") from error

    def _load(self) -> None:
        programs = self.programs
        self._load_tracepoints()
        for hook in self._hooks:
            if hook.enter:
                kind = self._kind(hook, at_return=False)
                programs.add(hook.enter, kind, self._place(hook), self._copies(hook.enter, kind))
            if hook.exit:
                kind = self._kind(hook, at_return=True)
                arguments = len(self._types.functions[hook.function].parameters)
                programs.add(hook.exit, kind, self._place(hook), self._copies(hook.exit, kind), arguments)
                for name in FOLLOWING if captures.is_following(hook.exit) else ():
                    programs.add(name, kind, self._place(hook))
        if self._tls:
            self._load_tls()
        for hook in self._hooks:
            if captures.is_following(hook.exit):
                programs.enter(FOLLOWING, self._kind(hook, at_return=True), self._place(hook))
        programs.all()

    def _load_tracepoints(self) -> None:
        for name in (*self._capture.called, *captures.RUN_BY_US):
            self.programs.add(name, self._raw)
        for tracepoint, name in self._capture.tracepoints.items():
            kind = self._event if tracepoint in self._events else self._raw
            self.programs.add(name, kind, copies=self._copies(name, kind))
        self.programs.enter(self._capture.called, self._raw)
        if self._events:
            for name in self._capture.called_by_events:
                self.programs.add(name, self._event, EVENT)
            self.programs.enter(self._capture.called_by_events, self._event, EVENT)

    def _load_tls(self) -> None:
        """Load what is for TLS libraries; where one program cannot be told at which function it is, one for each."""
        multi = "-DHAS_UPROBE_MULTI" in self._types.flags
        kind = load.Kind(load.KPROBE, load.UPROBE_MULTI if multi else 0)
        for name in (*captures.TLS_CALLED, *captures.TLS_RETURNED):
            self.programs.add(name, kind, TLS)
        for name, numbers in tls_functions.ENTERED.items():
            for function in [0] if multi else numbers:
                self.programs.add(name, kind, f"{TLS}{function or ''}", number=function)
        self.programs.enter(captures.TLS_CALLED, kind, TLS)

    def attach(self) -> dict[str, int]:
        """Attach, what tells of ends first; returns the links' descriptors; raises CannotTrace, attached to nothing."""
        links: dict[str, int] = {}
        try:
            for place, attach in self._places():
                with suppress(FileNotFoundError) if place in self._capture.optional else nullcontext():
                    links.update(attach())  # one by one: what is attached before one fails is in it
        except OSError as error:
            for link in links.values():
                os.close(link)
            raise CannotTrace(
                f"cannot attach to {error.strerror}", "see ringspan doctor; try another --capture"
            ) from error
        return links

    def _places(self) -> Iterator[tuple[str, Callable[[], Links]]]:
        for tracepoint, name in self._capture.tracepoints.items():
            yield tracepoint, partial(self._attach_tracepoint, tracepoint, name)
        for hook in self._hooks:
            yield hook.function, partial(self._attach_hook, hook)

    def _attach_tracepoint(self, tracepoint: str, name: str) -> Links:
        if tracepoint in self._events:
            yield tracepoint, load.attach_event(self._events[tracepoint], self.programs.fd(name))
            return
        for copy in range(self._copies(name, self._raw)):
            yield _key(tracepoint, "", copy), load.attach_tracepoint(tracepoint, self.programs.fd(name, copy=copy))

    def _attach_hook(self, hook: Hook) -> Links:
        for name, at_return in ((hook.exit, True), (hook.enter, False)):
            for copy in range(self._copies(name, self._kind(hook, at_return=at_return)) if name else 0):
                fd = self.programs.fd(name, self._place(hook), copy)
                yield _key(name, hook.function, copy), self._attach(hook.function, fd, at_return=at_return)

    def _attach(self, function: str, fd: int, *, at_return: bool) -> int:
        if self._capture is KPROBE:
            return load.attach_kprobe(function, fd, at_return=at_return)
        return load.attach_tracing(function, fd)


def drawback(capture: Capture) -> str:
    """Say what a capture that can be had loses on a kernel that preempts (see preemption.py); empty if nothing."""
    model = preemption.preempts()
    if not model or capture is FENTRY:
        return ""
    if capture is not KPROBE and preemption.TRACEPOINTS not in btf.read_types([TRIED]).flags:
        return ""
    return f"the kernel preempts (model {model}), and skips it where a thread is put aside within bpf(2)"


def obstacle(capture: Capture) -> str:
    """Say why a kernel does not allow a capture, tried with a program that does nothing; empty if it does."""
    if not capture.hooks:
        return ""
    if off := switches.found_off(capture.how):
        return f"{off}: what is attached there does not run"
    needed = [hook.function for hook in capture.hooks if hook.function not in capture.optional]
    types = btf.read_types(needed)
    if lacking := [name for name in needed if name not in types.functions]:
        return f"{lacking[0]} is not among the kernel's types"
    if capture is captures.FENTRY and preemption.preempts() and ATOMICS not in types.flags:
        return "the kernel preempts, and BPF has no atomic instructions there"
    return _trial(capture, types.functions[TRIED].id)


def _trial(capture: Capture, function_id: int) -> str:
    fds = []
    try:
        if capture is KPROBE:
            fds.append(load.load("nothing", load.NOTHING, load.Kind(load.KPROBE)))
            fds.append(load.attach_kprobe(TRIED, fds[0], at_return=True))
        else:
            fds.append(load.load("nothing", load.NOTHING, load.Kind(load.TRACING, load.FEXIT, function_id)))
            fds.append(load.attach_tracing(TRIED, fds[0]))
    except CannotTrace as error:
        return f"its programs are refused ({error.reason.rpartition(': ')[2]})"
    except OSError as error:
        return error.strerror or str(error)
    finally:
        for fd in reversed(fds):
            with suppress(OSError):
                os.close(fd)
    return ""
