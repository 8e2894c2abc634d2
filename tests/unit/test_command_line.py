"""What a command line says a process is, and that neither code nor arguments become a name."""

from __future__ import annotations

import pytest

from ringspan import command_line

SECRET = "hunter2"


def name(*words: str) -> str | None:
    return command_line.name("\0".join(words).encode() + b"\0")


@pytest.mark.parametrize(
    "words",
    [
        ["python3", "-uc", 'import os; K="hunter2"'],
        ["python3", "-Ic", "f('hunter2')"],
        ["python3", "-ic", "x", "hunter2"],
        ["python3", "-Wdefault", "-c", "x", "hunter2"],
        ["python3", "-mhttpmod:hunter2"],
        ["python3", "-m", "a b hunter2"],
        ["python3", "--unknown", "hunter2"],
        ["python3", "-Y", "hunter2"],
        ["python3", "-", "hunter2"],
        ["perl", "-we", "getprint 'http://u:hunter2@h'"],
        ["perl", "-ne", "hunter2"],
        ["perl", "-pie", "hunter2", "hunter2"],
        ["perl", "-0777ne", "hunter2"],
        ["perl", "-Mstrict", "-E", "hunter2"],
        ["perl", "-lane", "hunter2"],
        ["ruby", "-ne", "hunter2"],
        ["ruby", "-rjson", "-e", "hunter2"],
        ["ruby", "-ie", "hunter2"],
        ["php", "-nr", "hunter2"],
        ["php", "-d", "x=1", "--run", "hunter2"],
        ["php", "--", "hunter2"],
        ["sh", "-ec", "exec wget --password=hunter2 http:x"],
        ["bash", "-lc", "hunter2"],
        ["bash", "-xc", "hunter2"],
        ["bash", "-euxo", "pipefail", "-c", "hunter2"],
        ["bash", "-ie", "-s", "--", "hunter2"],
        ["bash", "--unknown", "hunter2"],
        ["bash", "+Z", "hunter2"],
        ["node", "--eval=1", "hunter2"],
        ["node", "-pe", "hunter2"],
        ["node", "--unknown-secret", "hunter2"],
        ["node", "-e1", "hunter2"],
        ["deno", "eval", "hunter2 "],
        ["bun", "--eval", "hunter2"],
        ["java", "--unknown", "hunter2", "Main"],
        ["bash", "x;hunter2"],
        ["bash", "u:hunter2@h"],
        ["python3", "p='hunter2'"],
    ],
)
def test_neither_code_nor_an_arguments_value_is_a_name(words: list[str]) -> None:
    assert name(*words) is None


@pytest.mark.parametrize(
    ("words", "want"),
    [
        (["python", "-mhttp.server", "8000"], "http.server"),
        (["python3", "-mhttpmod", "hunter2-PASSWORD"], "httpmod"),
        (["python", "-um", "myapp.server"], "myapp.server"),
        (["python3.11", "-Wignore", "-Xdev", "-uB", "/srv/job.py", "-c", SECRET], "job"),
        (["python3", "--check-hash-based-pycs", "never", "--", "job.py"], "job"),
        (["perl", "-Ilib", "-I", "other", "-MPOSIX", "-d:NYTProf", "-wT", "/srv/run.pl"], "run"),
        (["perl", "-0777", "-l012", "run.pl"], "run"),
        (["ruby", "-W:no-deprecated", "-rset", "-I", "lib", "--yjit", "--disable=gems", "app.rb"], "app"),
        (["ruby", "-W0", "--encoding", "utf-8", "app.rb"], "app"),
        (["php", "-dmemory_limit=1G", "-S", "0.0.0.0:8000", "-t", "public", "router.php"], "router"),
        (["php8.2", "-n", "-f", "/srv/job.php", "--", SECRET], "job"),
        (["bash", "-euo", "pipefail", "/opt/run.sh"], "run"),
        (["bash", "--norc", "--rcfile", "x", "+O", "extglob", "-eu", "/opt/run.sh", SECRET], "run"),
        (["sh", "-e", "--", "/opt/run.sh"], "run"),
        (["node", "--watch-path", "./src", "server.js"], "server"),
        (["node", "--env-file-if-exists", ".env", "--no-warnings", "--inspect", "server.js"], "server"),
        (["node", "--inspect=0.0.0.0:9229", "/app/node_modules/@nestjs/cli/bin/nest.js", "start"], "nest"),
        (["deno", "serve", "--port", "8000", "main.ts"], "main"),
        (["deno", "run", "-A", "--allow-net=h", "--env-file", "main.ts"], None),
        (["deno", "run", "https://deno.land/std@0.1/http/file_server.ts"], "file_server"),
        (["bun", "--port", "3000", "run", "index.ts"], "index"),
        (["java", "--release", "17", "Main.java"], "Main"),
        (["java", "--enable-preview", "-XX:+UseZGC", "-jar", "/opt/a.jar", SECRET], "a"),
        (["java", "--module=com.example/com.example.Main", SECRET], "Main"),
        (["nginx", SECRET], None),
    ],
)
def test_what_an_interpreter_runs_is_the_name(words: list[str], want: str | None) -> None:
    assert name(*words) == want
