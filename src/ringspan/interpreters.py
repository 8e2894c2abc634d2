"""How interpreters read their options: which take a value, and which say that code stands on the command line."""

from __future__ import annotations

from typing import NamedTuple


class Options(NamedTuple):
    """The options of one interpreter; letters may be joined in a word (-uc), long ones are words of their own.

    What is not here is not understood: whether a value follows it is not known, and it may be a secret.
    """

    flags: str = ""  # letters that take nothing
    code: str = ""  # letters after which code or arguments stand, and no file of a program
    named: str = ""  # letters whose value is what runs
    value: str = ""  # letters whose value is the rest of the word, or the next word
    rest: str = ""  # letters whose value is the rest of the word, if any
    ending: str = ""  # the same, of which some read as more letters
    later: str = ""  # letters whose value is the next word, even if other letters follow
    long_flags: frozenset[str] = frozenset()
    long_value: frozenset[str] = frozenset()
    long_prefixes: tuple[str, ...] = ()  # of long ones that take nothing
    subcommands: frozenset[str] = frozenset()
    code_words: frozenset[str] = frozenset()  # subcommands after which code stands
    has_letters: bool = True  # whether letters may be joined
    has_plus: bool = False  # whether options may begin with + too
    has_end: bool = True  # whether a program may stand after --


SHELL = Options(
    flags="abefhiklmnprtuvxBCDEHIPTVq", code="cs", later="oO", has_plus=True,
    long_flags=frozenset({
        "--login", "--norc", "--noprofile", "--posix", "--restricted", "--verbose", "--noediting", "--debugger",
        "--debug",
    }),
    long_value=frozenset({"--rcfile", "--init-file"}),
)  # fmt: skip
NODE = Options(
    has_letters=False, flags="i", subcommands=frozenset({"inspect"}),
    long_flags=frozenset({
        "--inspect", "--inspect-brk", "--inspect-wait", "--watch", "--watch-preserve-output",
        "--enable-source-maps", "--trace-warnings", "--trace-deprecation", "--trace-uncaught", "--trace-exit",
        "--trace-sync-io", "--trace-sigint", "--throw-deprecation", "--pending-deprecation", "--expose-gc",
        "--preserve-symlinks", "--preserve-symlinks-main", "--abort-on-uncaught-exception",
        "--experimental-strip-types", "--experimental-transform-types", "--experimental-vm-modules",
        "--experimental-modules", "--experimental-json-modules", "--experimental-fetch",
        "--experimental-specifier-resolution", "--experimental-wasm-modules", "--experimental-permission",
        "--permission", "--experimental-worker", "--experimental-sqlite", "--experimental-websocket",
        "--experimental-require-module", "--frozen-intrinsics", "--use-openssl-ca", "--use-system-ca",
        "--use-bundled-ca", "--enable-fips", "--force-fips", "--cpu-prof", "--heap-prof", "--prof",
        "--perf-basic-prof", "--jitless", "--report-on-signal", "--report-on-fatalerror",
        "--report-uncaught-exception", "--track-heap-objects", "--optimize-for-size", "--insecure-http-parser",
        "--harmony",
    }),
    long_prefixes=("--no-",),
    long_value=frozenset({
        "-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions", "--env-file",
        "--env-file-if-exists", "--watch-path", "--inspect-port", "--icu-data-dir", "--openssl-config", "--title",
        "--dns-result-order", "--max-old-space-size", "--max-http-header-size", "--diagnostic-dir", "--input-type",
        "--experimental-default-type", "--unhandled-rejections", "--stack-trace-limit", "--redirect-warnings",
        "--secure-heap", "--tls-cipher-list", "--tls-keylog", "--trace-event-categories", "--watch-kill-signal",
    }),
)  # fmt: skip
JAVA = Options(
    long_flags=frozenset({"--enable-preview", "--show-version"}),
    long_value=frozenset({
        "-cp", "-classpath", "--class-path", "-p", "--module-path", "--upgrade-module-path", "--add-modules",
        "--enable-native-access", "--add-reads", "--add-exports", "--add-opens", "--limit-modules",
        "--patch-module", "--source", "--release",
    }),
)  # fmt: skip
OPTIONS = {
    "python": Options(
        flags="bBdEhiIOPqRsStuvVx?", code="c", named="m", value="WX",
        long_value=frozenset({"--check-hash-based-pycs"}),
    ),
    "perl": Options(flags="0123456789acdfghlnpsStTuUvVwWX", code="eE", value="I", rest="mM:", ending="0CDFix"),
    "ruby": Options(
        flags="0123456789acdhlnpsSUvwWy", code="e", value="CEIrX", rest=":", ending="FiKTx",
        long_flags=frozenset({"--yjit", "--jit", "--rjit", "--mjit", "--verbose", "--debug"}),
        long_prefixes=("--enable-", "--disable-"),
        long_value=frozenset({
            "--require", "--encoding", "--external-encoding", "--internal-encoding", "--enable", "--disable",
        }),
    ),
    "php": Options(
        flags="aCehHilmnqvw", code="rBRFEs", named="f", value="cdzSt", has_end=False,
        long_flags=frozenset({"--no-php-ini", "--no-header", "--interactive"}),
        long_value=frozenset({"--php-ini", "--define", "--zend-extension", "--server", "--docroot"}),
    ),
    "bash": SHELL, "sh": SHELL, "dash": SHELL, "node": NODE, "nodejs": NODE,
    "deno": Options(
        has_letters=False, has_end=False, flags="AqrNRWESIfP", subcommands=frozenset({"run", "serve", "task", "start"}),
        code_words=frozenset({"eval", "repl"}),
        long_flags=frozenset({
            "--reload", "--check", "--watch", "--watch-hmr", "--unstable", "--cached-only", "--frozen", "--inspect",
            "--inspect-brk", "--inspect-wait", "--quiet", "--parallel",
        }),
        long_prefixes=("--allow-", "--deny-", "--no-", "--unstable-"),
        long_value=frozenset({
            "--config", "-c", "--import-map", "--port", "--host", "--location", "--seed", "--cert", "--ext",
            "--log-level", "-L",
        }),
    ),
    "bun": Options(
        has_letters=False, has_end=False, flags="ib", subcommands=frozenset({"run", "serve", "task", "start"}),
        long_flags=frozenset({
            "--watch", "--hot", "--smol", "--bun", "--silent", "--if-present", "--inspect", "--inspect-brk",
            "--inspect-wait", "--expose-gc", "--prefer-offline", "--prefer-latest",
        }),
        long_prefixes=("--no-",),
        long_value=frozenset({
            "-r", "--preload", "--require", "--import", "--env-file", "--cwd", "--port", "--conditions",
            "--main-fields", "-d", "--define", "--tsconfig-override", "--title",
        }),
    ),
}  # fmt: skip
