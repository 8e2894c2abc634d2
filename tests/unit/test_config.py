"""Settings: merged once; mistakes name file and key."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ringspan import config, merged, reload, schema
from ringspan.errors import UsageError
from ringspan.files import config_folder


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text)
    return path


def test_default_yaml_is_the_defaults() -> None:
    assert yaml.safe_load((config_folder() / "default.yaml").read_text()) == asdict(config.Settings())


def test_a_flag_wins_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "interval: 5\nrole: client\nport: 80\n")
    settings = config.merge({"interval": 7.0, "role": None, "port": None}, path)
    assert (settings.interval, settings.role, settings.port) == (7.0, "client", [80])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("intervall: 5", "unknown key 'intervall'; did you mean 'interval'"),
        ("interval: fast", "interval: 'fast' is not a number"),
        ("role: boss", "role: 'boss' is not one of server, client, both"),
        ("ring_bytes: 100000", "ring_bytes: 100000 is not a power of two"),
        ("port: 70000", "port: 70000"),
        ("- a", "not a mapping"),
        ("a: [", "not YAML"),
        ("[" * 5000, "not YAML"),
        ("exe: {a: b}", "exe: {'a': 'b'} is not a text"),
        ("exe: [[a]]", "exe: ['a'] is not a text"),
        ("opt_in: [cookie]", "opt_in: 'cookie' is not one of client.port"),
        ("body_sizes: 3", "body_sizes: 3 is not true or false"),
        ("otlp: httpx://a", "otlp: 'httpx://a' is not a URL"),
        ("otlp: nonsense", "otlp: 'nonsense' is not a URL"),
    ],
)
def test_a_mistake_names_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as raised:
        config.merge({}, path)
    assert str(path) in str(raised.value)
    assert said in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.yaml: No such file"):
        config.merge({}, tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [x,x]\nb: &b [*a,*a]\ninterval: *b\n", "aliases (*) are not taken"),
        ("interval: 0x" + "f" * 5000, "is not a number"),
        ("? 0x" + "f" * 5000 + "\n: 1\n", "unknown key"),
        ("interval: " + "9" * 5000, "not YAML"),
        ("interval: !!bool maybe", "not YAML"),
        ("interval: !!int ''", "not YAML"),
        ("interval: !!timestamp x", "not YAML"),
        ("interval: 2\ninterval: 3", "interval stands twice"),
        ("port: 010", "'010' is not a number"),
        ("rules: [{match: {exe: a}, set: {service.version: 1.10}}]", "put it in quotes"),
        ("rules: [{match: {port: []}, drop: true}]", "port is empty"),
        ("rules: [{match: {environment: }, drop: true}]", "environment is empty"),
        ("rules: [{match: , drop: true}]", "is not a mapping"),
        ("exe: ''", "exe: '' is not a text"),
        ('exe: "a\\0b"', "exe: 'a\\x00b' is not a text"),
        ('exe: "\\ud800"', "exe: '\\ud800' is not a text"),
        ("exe: !!python/object/apply:os.system [exit]", "could not determine a constructor"),
        ("otlp: htp://user:secret@h", "otlp: 'htp://REDACTED:REDACTED@h' is not a URL"),
        ("otlp: ['http://user:secret@h']", "otlp: a list is not a URL"),
        ("otlp: user:secret@h:4317", "otlp: 'REDACTED:REDACTED@h:4317' is not a URL"),
        ("role: " + "x" * 9999, "..."),
        ("exe: " + "[" * 17 + "]" * 17, "more than 16 deep"),
        ("a: \x1b[31m", "special characters are not allowed"),
    ],
)
def test_a_hostile_file_is_a_mistake_told_shortly(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as raised:
        config.merge({}, path)
    assert said in str(raised.value)
    assert len(str(raised.value)) < 400
    assert str(raised.value).isprintable()
    assert "secret" not in str(raised.value)


def test_what_a_file_says_is_not_repeated(tmp_path: Path) -> None:
    """Who may run this as root may name a file that is not theirs to read."""
    path = write(tmp_path, "root:$y$j9T$hash: : x\n")
    with pytest.raises(UsageError, match="line 1, column") as raised:
        config.merge({}, path)
    assert "hash" not in str(raised.value)


def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(UsageError, match="/dev/zero: larger than"):
        config.merge({}, Path("/dev/zero"))


def test_what_default_yaml_gives_as_examples_can_be_read() -> None:
    comments = [line.partition("#")[2] for line in (config_folder() / "default.yaml").read_text().splitlines()]
    examples = [one.strip() for one in comments if one.startswith(" - ")]
    examples += [f"x: {one}" for comment in comments for one in re.findall(r"\[[^\]]*\]", comment)]
    assert len(examples) > 5
    for one in examples:
        yaml.load(one, config.Loader)


@pytest.mark.parametrize("text", ["1e3", "123e45", "0x1f", "1_000", "off", "0012", "1:30", "2026-01-01", "~", ".5"])
def test_what_is_printed_is_read_as_it_was(tmp_path: Path, text: str) -> None:
    given = config.merge({"exe": [text]}, None)
    printed = merged.text({"exe": [text]}, None)
    assert config.merge({}, write(tmp_path, printed)).exe == given.exe


def test_default_yaml_says_something_of_every_setting() -> None:
    said = schema._descriptions()
    assert {one.name for one in fields(config.Settings) if len(said.get(one.name, "")) < 10} == set()


def test_the_schema_that_is_shipped_is_the_codes() -> None:
    """Written by: ringspan config --schema > config/ringspan.schema.json."""
    assert json.loads((config_folder() / "ringspan.schema.json").read_text()) == schema.schema()


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("{}", True),
        ("{interval: 5, role: client, port: 80, exe: [curl, 7], opt_in: [url.scheme], sandbox: false}", True),
        ("{duration: null, pid: null, otlp: 'HTTPS://a'}", True),
        ("{intervall: 5}", False),
        ("{interval: fast}", False),
        ("{interval: 0}", False),
        ("{port: 70000}", False),
        ("{port: [80, x]}", False),
        ("{role: boss}", False),
        ("{opt_in: cookie}", False),
        ("{sandbox: 3}", False),
        ("{otlp: nonsense}", False),
        ("{rules: [{drop: true}, {name: 7, match: {exe: [a, b], port: 80}, sample: 0.5}]}", True),
        ("{rules: [{match: {environment: {OTEL_SERVICE_NAME: shop*}, role: client}, set: {service.name: a}}]}", True),
        ("{rules: [{}]}", False),
        ("{rules: [{name: a, match: {exe: a}}]}", False),
        ("{rules: [{drop: 1}]}", False),
        ("{rules: [{drop: true, when: now}]}", False),
        ("{rules: [{match: {exec: a}, drop: true}]}", False),
        ("{rules: [{match: {exe: []}, drop: true}]}", False),
        ("{rules: [{match: {port: 0}, drop: true}]}", False),
        ("{rules: [{match: {role: boss}, drop: true}]}", False),
        ("{rules: [{match: {path: healthz}, drop: true}]}", False),
        ("{rules: [{match: {path: ['*.js', '?x', '[/]a']}, drop: true}]}", True),
        ("{rules: [{match: {environment: {PATH: a}}, drop: true}]}", False),
        ("{rules: [{sample: 1.5}]}", False),
        ("{rules: [{set: {Name: a}}]}", False),
        ("{rules: [{set: {a: [b]}}]}", False),
        ("{rules: [x]}", False),
        (
            "{routes: ['/users/{id}', {service: shop*, template: [/a, '/b/*']}], learn_routes: true, routes_max: 5}",
            True,
        ),
        ("{routes: [users]}", False),
        ("{routes: [{service: a}]}", False),
        ("{routes: [{template: a}]}", False),
        ("{routes: [{path: /a}]}", False),
        ("{learn_routes: 1}", False),
        ("{routes_max: 0}", False),
        ("{redact_keys: [shoe*, 7], redact_except: page_token, redact_paths: ['/door/{code}', '/share/*']}", True),
        ("{redact_keys: [[a]]}", False),
        ("{redact_paths: [door]}", False),
        ("{rules: {match: {path: /x}, drop: true}, routes: '/users/{id}', redact_paths: '/door/{code}'}", True),
        ("{routes: {template: /x}}", True),
        ("{rules: [{set: null, drop: true}, {set: {a: 1}}, {match: {path: /x}, set: {}, drop: false}]}", True),
        ("{rules: [{match: {path: /x}, set: {a: b}}]}", False),
        ("{rules: [{match: {environment: {}}, drop: true}]}", False),
        ("{rules: [{match: {exe: ''}, drop: true}]}", False),
        ("{rules: [{set: {telemetry.x: b}}]}", False),
        ("{rules: [{set: {ringspan.x: b}}]}", False),
        ("{rules: [{set: {ringspans: b}}]}", True),
        ("{rules: [{drop: null}]}", False),
        ("{rules: {}}", False),
        ("{ring_bytes: 65536, port: 80.0, container_runtime: 5}", True),
        ("{ring_bytes: 65537}", False),
        ("{ring_bytes: 2147483648}", False),
        ("{port: 80.5}", False),
        ("{trusted_proxies: [10.0.0.0/8, '2001:db8::/32', unix, '::1', 127.0.0.1]}", True),
        ("{trusted_proxies: foo}", False),
        ("{otlp: 'http:// h'}", False),
        ("{otlp: 'http://'}", False),
        ("{exe: ['']}", False),
        ('{exe: "a\\0b"}', False),
        ("{user: 12}", False),
        ("{routes: ['/', '/*', '/{a}.pdf', '/a/{b}-{c}/*', '/{a?}', '//']}", True),
        ("{routes: ['/a*b']}", False),
        ("{routes: ['/*/b']}", False),
        ("{routes: ['/{a*}/b']}", False),
        ("{routes: ['/{a']}", False),
        ("{routes: ['/a}']}", False),
        ("{routes: ['/a?b']}", False),
        ("{redact_paths: ['/x#y']}", False),
        (f"{{routes: ['{'/a' * 63}']}}", True),
        (f"{{routes: ['{'/a' * 64}']}}", False),
        (f"{{routes: ['/{'a' * 511}']}}", True),
        (f"{{routes: ['/{'a' * 512}']}}", False),
        ("[]", False),
    ],
)
def test_schema_and_code_agree_on_what_is_a_mistake(tmp_path: Path, text: str, good: bool) -> None:
    jsonschema.Draft202012Validator.check_schema(schema.schema())
    assert jsonschema.Draft202012Validator(schema.schema()).is_valid(yaml.load(text, config.Loader)) == good
    try:
        config.merge({}, write(tmp_path, text))
        taken = True
    except UsageError:
        taken = False
    assert taken == good


def test_merged_settings_can_be_read_again_and_say_who_set_them(tmp_path: Path) -> None:
    path = write(tmp_path, "interval: 5\nexe: ['*/curl', 'a: b']\nrole: null\n")
    flags: dict[str, Any] = {"role": None, "port": [80, 81], "interval": 7.0}
    printed = merged.text(flags, path)
    assert config.merge({}, write(tmp_path, printed)) == config.merge(flags, write(tmp_path, "exe: ['*/curl', 'a: b']"))
    sources = dict(re.findall(r"^(interval|exe|role|port):.*  # (\w+)$", printed, re.MULTILINE))
    assert sources == {"interval": "flag", "exe": "file", "role": "default", "port": "flag"}


def test_merged_settings_show_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2")
    urls = "otlp: https://me:hunter2@h/v1?token=hunter2\nkubelet: https://me:hunter2@h:10250"
    printed = merged.text({}, write(tmp_path, urls))
    assert "hunter2" not in printed
    assert "OTEL_EXPORTER_OTLP_HEADERS" in printed
    assert "otlp: https://REDACTED:REDACTED@h/v1?token=REDACTED" in printed


def test_settings_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "interval: 5\nport: 80\n")
    now = config.merge({"role": "client"}, path)

    def read() -> config.Settings:
        return config.merge({"role": "client"}, path)

    write(tmp_path, "interval: 6\nport: 81\nrole: server\n")

    def again(now: config.Settings) -> config.Settings:
        reading = reload.begin(read)
        assert reading
        reading.join()
        prepared = reload.taken(now, reading)
        return prepared.settings if prepared else now

    then = again(now)
    assert (then.interval, then.port, then.role) == (6, [80], "client")
    assert capsys.readouterr().err == (
        "ringspan: settings read again: changed interval\nringspan: only a new start changes port\n"
    )
    write(tmp_path, "intervall: 7\n")
    assert again(then) == then
    assert "settings are kept as they were: " in capsys.readouterr().err
    assert reload.begin(None) is None


def test_no_secret_stands_on_a_command_line() -> None:
    with pytest.raises(UsageError, match="everyone can read secrets there"):
        config.merge({"otlp": "http://user:secret@h:4318"}, None)
    assert config.merge({"otlp": "http://h:4318/v1"}, None).otlp == "http://h:4318/v1"


@pytest.mark.parametrize("written", ["0012", "1:30", "off", "2026-01-01", "012345670123", "1_000", "0x10"])
def test_a_text_is_what_is_written(tmp_path: Path, written: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"exe: {written}\n")
    assert config.merge({}, file).exe == [written]
