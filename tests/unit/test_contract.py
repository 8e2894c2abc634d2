"""The record as C lays it out and as Python reads it: one and the same, with nothing hidden."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from ringspan import contract
from ringspan.files import bpf_folder
from unit.harness import compiler

if TYPE_CHECKING:
    from pathlib import Path

TYPES = "#include <stddef.h>\n#include <stdint.h>\n" + "".join(f"typedef uint{n}_t u{n};\n" for n in (8, 16, 32, 64))
STRUCT = "struct record {\n%s\n};\n"


def assertions() -> str:
    fields = contract.RECORD.fields
    assert fields
    lines = [f'_Static_assert(sizeof(struct record) == {contract.RECORD.itemsize}, "size");']
    for name, (dtype, offset, *_) in fields.items():
        lines.append(f'_Static_assert(offsetof(struct record, {name}) == {offset}, "{name}: offset");')
        lines.append(f'_Static_assert(sizeof(((struct record *)0)->{name}) == {dtype.itemsize}, "{name}: size");')
    lines += [f'_Static_assert({name} == {value}, "{name}");' for name, value in contract.header().numbers.items()]
    return "\n".join(lines)


def test_c_lays_a_record_out_as_python_reads_it(tmp_path: Path) -> None:
    source = tmp_path / "contract.c"
    source.write_text(f'{TYPES}#include "contract.h"\n{assertions()}\n')
    command = [compiler(), "-Wpadded", "-Wall", "-Werror", "-fsyntax-only", "-I", str(bpf_folder()), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_in_the_header_is_overlooked() -> None:
    body = contract.COMMENT.sub("", (bpf_folder() / "contract.h").read_text())
    assert set(re.findall(r"^#define\s+(\w+)", body, re.MULTILINE)) <= contract.header().numbers.keys()
    assert set(re.findall(r"^struct\s+(\w+)\s*\{", body, re.MULTILINE)) == contract.header().structs.keys()
    enumerators = re.findall(r"^\s+([A-Z]\w*)\s*=", body, re.MULTILINE)
    assert set(enumerators) <= contract.header().numbers.keys()


def test_texts_have_a_count_and_a_bound() -> None:
    for name in ("target", "tracestate", "host", "user_agent", "traceparent", "method"):
        assert contract.RECORD[name].itemsize == contract.number(f"{name.upper()}_MAX")
        assert contract.RECORD[f"{name}_bytes"].itemsize == 2


def test_truncated_bits_are_distinct() -> None:
    bits = [value for name, value in contract.header().numbers.items() if name.startswith("TRUNCATED_")]
    assert sorted(bits) == [1 << i for i in range(len(bits))]


def test_numbers_and_names() -> None:
    assert contract.number("ROLE_SERVER") == 2
    assert contract.names("ROLE_") == {0: "unknown", 1: "client", 2: "server"}
    with pytest.raises(KeyError):
        contract.number("ROLE_OF_NO_ONE")


def test_scalars_arrays_and_defines() -> None:
    parsed = contract.parse(
        "#define N 0x4 /* four */\nenum e {\n\tA = 1,\n};\n" + STRUCT % "\tu64 a;\n\tu16 b[N];\n\tchar c[8];"
    )
    assert parsed.numbers == {"N": 4, "A": 1}
    assert parsed.structs["record"].itemsize == 24
    assert parsed.structs["record"].fields["b"][1] == 8


@pytest.mark.parametrize(
    "members",
    [
        "\tu8 a;\n\tu64 b;",
        "\tu64 a;\n\tu8 b;",
        "\tu64 *a;",
        "\tu8 a : 4;",
        "\tu64 a, b;",
        "\tstruct other a;",
        "\tbool_t",
        "\tbool a;",
        pytest.param(
            "\tchar a[UNKNOWN_MAX];",
            id="unknown-bound",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(members: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        contract.parse(STRUCT % members)
