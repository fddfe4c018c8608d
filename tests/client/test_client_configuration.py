"""Chrystoki.conf is read as it is and edited without touching another byte."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave.client.clusters import (
    ClusterEntry,
    entry_values,
    receive_timeout_seconds,
    registered_clusters,
    with_cluster,
    without_cluster,
)
from conclave.client.configuration import (
    ENVIRONMENT_ENTRIES,
    MAX_FILE_BYTES,
    client_configuration,
    configuration_path,
    parse,
    read_document,
    remove_entries,
    set_entries,
    write_document,
)
from conclave.errors import BadInput, LimitReached

GUIDE_SHAPE = b"""\
Chrystoki2 = {
   LibUNIX = /usr/lib/libCryptoki2.so;
   LibUNIX64 = /usr/lib/libCryptoki2_64.so;
}
LunaSA Client = {
    ReceiveTimeout = 20000;
    SSLConfigFile = /opt/lunaclient/bin/openssl.cnf;
    NetClient = 1;
    TCPKeepAlive = 1;

    LNHServer00 = 192.0.2.4:50052;
    LNHServerClientCert00 = /opt/lunaclient/cert/client/c2c9/192.0.2.5.pem;
    LNHServerClientKey00 = /opt/lunaclient/cert/client/c2c9/192.0.2.5Key.pem;
    LNHServerCAFile00 = /opt/lunaclient/cert/server/c2c9/lnh_ca.pem;
    LNHServerCN00 = lnh.thalesgroup.com;
    LNHServer03 = [2001:db8::1]:50052;
    LNHServerClientCert03 = /opt/lunaclient/cert/client/3fed/a b.pem;
    LNHServerClientKey03 = /opt/lunaclient/cert/client/3fed/a bKey.pem;
    LNHServerCAFile03 = /opt/lunaclient/cert/server/3fed/lnh_ca.pem;
    LNHServerCN03 = lnh.thalesgroup.com;
}
Misc = {
   ToolsDir = /usr/safenet/lunaclient/bin;
}
"""
ENTRY = ClusterEntry(
    0,
    "127.7.7.7",
    50052,
    Path("/c/n.pem"),
    Path("/c/nKey.pem"),
    Path("/s/lnh_ca.pem"),
    "lnh.example",
)


def test_a_file_of_the_guides_shape_names_its_clusters() -> None:
    document = parse(GUIDE_SHAPE)
    first, second = registered_clusters(document)
    assert (first.index, first.host, first.port) == (0, "192.0.2.4", 50052)
    assert first.common_name == "lnh.thalesgroup.com"
    assert (second.index, second.host) == (3, "2001:db8::1")
    assert second.key_file == Path("/opt/lunaclient/cert/client/3fed/a bKey.pem")
    assert receive_timeout_seconds(document) == 20.0
    assert document.get("Misc", "ToolsDir") == "/usr/safenet/lunaclient/bin"


def test_reading_agrees_with_the_module_on_odd_files() -> None:
    odd = GUIDE_SHAPE.replace(b"    LNHServerCN00 = lnh.thalesgroup.com;\n", b"")
    odd = odd.replace(b"192.0.2.4:50052;", b"192.0.2.1:1;\n LNHServer00 = 192.0.2.4:50052 ; # mine")
    first, _ = registered_clusters(parse(odd))
    assert (first.host, first.port) == ("192.0.2.4", 50052)
    assert first.common_name == "lnh.thalesgroup.com"


def test_replacing_a_cluster_changes_its_five_values_only() -> None:
    edited = with_cluster(parse(GUIDE_SHAPE), ENTRY)
    before, after = GUIDE_SHAPE.splitlines(), edited.raw.splitlines()
    assert len(before) == len(after)
    changed = [line for line, other in zip(before, after, strict=True) if line != other]
    assert len(changed) == 5
    assert all(b"00 = " in line for line in changed)
    assert registered_clusters(edited)[0] == ENTRY


def test_a_missing_section_is_added_at_the_end() -> None:
    for start in (b"", b"Misc = {\n}\n", b"Misc = {}"):
        edited = with_cluster(parse(start), ENTRY)
        assert edited.raw.startswith(start)
        assert registered_clusters(edited) == (ENTRY,)


def test_added_lines_keep_the_files_line_ends_and_indentation() -> None:
    edited = set_entries(parse(b"Misc = {\r\n\t a = 1; # why\r\n}\r\n"), "Misc", {"b": "2"})
    assert edited.raw == b"Misc = {\r\n\t a = 1; # why\r\n\t b = 2;\r\n}\r\n"


def test_an_index_can_be_removed_and_leaves_the_rest_as_it_was() -> None:
    document = parse(GUIDE_SHAPE)
    removed = without_cluster(document, 3)
    assert [cluster.index for cluster in registered_clusters(removed)] == [0]
    kept = [line for line in GUIDE_SHAPE.splitlines(keepends=True) if b"03 = " not in line]
    assert removed.raw == b"".join(kept)


def test_a_socket_goes_with_its_cluster() -> None:
    line = {"LNHServerSocket03": "/run/conclave/crypto.sock"}
    document = set_entries(parse(GUIDE_SHAPE), "LunaSA Client", line)
    assert [cluster.socket for cluster in registered_clusters(document)] == ["", *line.values()]
    assert b"Socket" not in without_cluster(document, 3).raw
    assert b"Socket" not in with_cluster(document, replace(ENTRY, index=3)).raw
    long = set_entries(document, "LunaSA Client", {"LNHServerSocket03": "/" + "a" * 107})
    with pytest.raises(BadInput, match="LNHServerSocket03 must be a path of at most 107 bytes"):
        registered_clusters(long)


def test_refusals_name_line_field_and_value() -> None:
    for raw, words in (
        (b"Misc = {\n a = 1\n}\n", "line 2"),
        (b"Misc = {\n a = 1;\n", "Misc is not closed"),
        (b"stray;\n", "line 1"),
        (b"LunaSA Client = { LNHServer00 = nowhere; }", "LNHServerClientCert00"),
    ):
        with pytest.raises(BadInput, match=words):
            registered_clusters(parse(raw))
    with pytest.raises(BadInput, match="ReceiveTimeout"):
        receive_timeout_seconds(parse(b"LunaSA Client = { ReceiveTimeout = soon; }"))
    with pytest.raises(BadInput, match="LNHServer00 must be address:port"):
        registered_clusters(parse(GUIDE_SHAPE.replace(b"192.0.2.4:50052", b"192.0.2.4:70000")))
    for host in (b"two..dots", b"x" * 64, b"\xff"):
        with pytest.raises(BadInput, match="LNHServer00 must be address:port"):
            registered_clusters(parse(GUIDE_SHAPE.replace(b"192.0.2.4", host)))
    with pytest.raises(BadInput, match="LNHServerCN00 must be a name"):
        registered_clusters(parse(GUIDE_SHAPE.replace(b"lnh.thales", b"lnh..thales", 1)))
    with pytest.raises(BadInput, match="LNHServerClientKey00 holds a byte 0"):
        registered_clusters(parse(GUIDE_SHAPE.replace(b"192.0.2.5Key", b"192.0.2.5\0Key")))
    with pytest.raises(BadInput, match="stands 2 times"):
        set_entries(parse(b"a = { b = 1; b = 2; }"), "a", {"b": "3"})
    with pytest.raises(BadInput, match="cannot hold"):
        set_entries(parse(b""), "a", {"b": "x;y = z"})
    with pytest.raises(LimitReached):
        with_cluster(parse(b""), replace(ENTRY, index=10))


def test_no_more_of_a_file_is_read_than_it_may_be_long(tmp_path: Path) -> None:
    path = tmp_path / "Chrystoki.conf"
    with path.open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(BadInput, match="larger than 1048576 bytes"):
        read_document(path)
    path.write_bytes(b"#" * MAX_FILE_BYTES)
    assert read_document(path).entries == ()


def test_the_directory_comes_from_the_environment(tmp_path: Path) -> None:
    environment = {"ChrystokiConfigurationPath": str(tmp_path)}
    assert configuration_path(environment) == tmp_path / "Chrystoki.conf"
    assert configuration_path({}) == Path("/etc/Chrystoki.conf")


def test_what_hinders_the_reading_is_told(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for directory, reason in (
        ("none", "No such file or directory; register this client"),
        ("loop", "Too many levels of symbolic links"),
        ("x" * 300, "File name too long"),
    ):
        environment = {"ChrystokiConfigurationPath": str(tmp_path / directory)}
        with pytest.raises(BadInput, match=f"Chrystoki.conf cannot be read: {reason}"):
            client_configuration(environment)


def test_a_write_keeps_mode_and_link_and_leaves_nothing_behind(tmp_path: Path) -> None:
    real = tmp_path / "real.conf"
    real.write_bytes(GUIDE_SHAPE)
    real.chmod(0o640)
    link = tmp_path / "Chrystoki.conf"
    link.symlink_to(real)
    write_document(with_cluster(read_document(link), ENTRY), link)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert registered_clusters(read_document(real))[0] == ENTRY
    assert sorted(os.listdir(tmp_path)) == ["Chrystoki.conf", "real.conf"]  # noqa: PTH208


names = st.text("abcXYZ019_", min_size=1, max_size=8)
values = st.text(
    st.characters(
        codec="utf-8", exclude_characters=";{}#\r\n\0 \t", exclude_categories=("Zs", "Cc")
    ),
    max_size=12,
)
blanks = st.sampled_from(["", " ", "\t", "  "])
ends = st.sampled_from(["\n", "\r\n", " # note\n", "\n\n# a; = {\n", " "])


@st.composite
def files(draw: st.DrawFn) -> bytes:
    text = ""
    for section in draw(st.lists(names, max_size=3, unique=True)):
        text += f"{section}{draw(blanks)}={draw(blanks)}{{{draw(ends)}"
        for name in draw(st.lists(names, max_size=4, unique=True)):
            entry = f"{name}{draw(blanks)}={draw(blanks)}{draw(values)}{draw(blanks)};"
            text += draw(blanks) + entry + draw(ends)
        text += "}" + draw(ends)
    return text.encode()


@given(files(), names, st.dictionaries(names, values, min_size=1, max_size=3))
def test_an_edit_changes_what_it_was_asked_and_nothing_else(
    raw: bytes, section: str, wanted: dict[str, str]
) -> None:
    document = parse(raw)
    edited = set_entries(document, section, wanted)
    for name, value in wanted.items():
        assert edited.get(section, name) == value
    untouched = [(e.section, e.name, e.value) for e in document.entries]
    kept = [
        (e.section, e.name, e.value)
        for e in edited.entries
        if (e.section, e.name) in {(row[0], row[1]) for row in untouched}
    ]
    expected = [(s, n, wanted[n] if s == section and n in wanted else v) for s, n, v in untouched]
    assert kept == expected
    assert remaining(raw, section, wanted) == remaining(edited.raw, section, wanted)


def remaining(raw: bytes, section: str, names_gone: dict[str, str]) -> bytes:
    """Return what is left of a file once the named entries and white space are taken out."""
    without = remove_entries(parse(raw), section, list(names_gone)).raw
    bare = b"".join(without.split())
    return bare.replace(f"{section}={{}}".encode(), b"")


@given(files())
def test_setting_what_stands_there_changes_no_byte(raw: bytes) -> None:
    document = parse(raw)
    for entry in document.entries:
        assert set_entries(document, entry.section, {entry.name: entry.value}).raw == raw


def test_the_five_entries_have_the_guides_names() -> None:
    assert list(entry_values(ENTRY)) == [
        "LNHServer00",
        "LNHServerClientCert00",
        "LNHServerClientKey00",
        "LNHServerCAFile00",
        "LNHServerCN00",
    ]


INI = b"""\
[Chrystoki2]\r
LibNT=C:\\Program Files\\SafeNet\\LunaClient\\cryptoki.dll\r
[LunaSA Client]\r
; a comment with = and [\r
ReceiveTimeout=15000\r
LNHServer01 = 192.0.2.4:50052\r
LNHServerClientCert01=C:\\client\\a b.pem \r
LNHServerClientKey01=C:\\client\\a bKey.pem\r
LNHServerCAFile01=C:\\client\\lnh_ca.pem\r
\r
[Misc]\r
ToolsDir=C:\\Program Files\\SafeNet\\LunaClient\\\r
"""


def test_crystoki_ini_is_read_and_written_as_the_other_file_is(tmp_path: Path) -> None:
    path = tmp_path / "crystoki.ini"
    path.write_bytes(INI)
    environment = {"ChrystokiConfigurationPath": str(tmp_path)}
    assert configuration_path(environment) == path
    document = client_configuration(environment)
    (found,) = registered_clusters(document)
    assert (found.index, found.host, str(found.certificate_file)) == (
        1,
        "192.0.2.4",
        "C:\\client\\a b.pem",
    )
    assert receive_timeout_seconds(document) == 15
    changed = with_cluster(document, replace(found, host="h"))
    assert changed.raw == INI.replace(b"192.0.2.4", b"h").replace(
        b"lnh_ca.pem\r\n", b"lnh_ca.pem\r\nLNHServerCN01=lnh.thalesgroup.com\r\n"
    )
    added = with_cluster(document, replace(ENTRY, index=2))
    assert added.raw.startswith(INI.split(b"\r\n\r\n")[0])
    assert added.raw.endswith(INI[INI.index(b"\r\n[Misc]") :])
    assert [entry.index for entry in registered_clusters(added)] == [1, 2]
    assert without_cluster(added, 2).raw == INI
    write_document(added, path)
    assert read_document(path) == added
    (tmp_path / "Chrystoki.conf").write_bytes(b"")
    assert configuration_path(environment).name == "Chrystoki.conf"


@pytest.mark.parametrize("before", [b"", b"[Misc]\na=b", b"[LunaSA Client]"])
def test_an_ini_file_gets_the_section_that_it_lacks(before: bytes) -> None:
    document = with_cluster(parse(before, ini=True), ENTRY)
    (found,) = registered_clusters(document)
    assert found == ENTRY
    assert document.raw.startswith(before)
    assert document.raw.count(b"[LunaSA Client]") == 1


@pytest.mark.parametrize("text", [b"a=b\n", b"[S]\nnonsense\n", b"[S\na=b\n", b"[S]\n=b\n"])
def test_an_ini_file_that_breaks_the_grammar_is_refused_by_line(text: bytes) -> None:
    with pytest.raises(BadInput, match="in line"):
        parse(text, ini=True)


def test_the_environment_stands_for_a_file() -> None:
    """As the PKCS#11 module reads it: native/pkcs11/tests/net/test_config.c."""
    environment = {
        "ChrystokiConfigurationPath": "/nowhere",
        "CONCLAVE_SERVER": " [2001:db8::1]:50055 ",
        "CONCLAVE_CLIENT_CERT_FILE": "/run/cert.pem",
        "CONCLAVE_CLIENT_KEY_FILE": "/run/key.pem",
        "CONCLAVE_CA_FILE": "/run/ca.pem",
        "CONCLAVE_RECEIVE_TIMEOUT": "1500",
        "CONCLAVE_SERVER_CN": "",
    }
    document = client_configuration(environment)
    (found,) = registered_clusters(document)
    assert (found.index, found.host, found.port) == (0, "2001:db8::1", 50055)
    assert (str(found.key_file), found.common_name) == ("/run/key.pem", "lnh.thalesgroup.com")
    assert receive_timeout_seconds(document) == 1.5
    with pytest.raises(BadInput):
        client_configuration(environment | {"CONCLAVE_CA_FILE": "a;b"})
    with pytest.raises(BadInput):
        registered_clusters(client_configuration(environment | {"CONCLAVE_SERVER": "h:0"}))
    source = (Path(__file__).parents[2] / "native/pkcs11/src/config.c").read_text()
    for variable, entry in ENVIRONMENT_ENTRIES.items():
        assert f'{{ "{variable}", "{entry}" }}' in source
