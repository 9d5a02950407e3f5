from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.api.template import TemplateError, execute, parse
from plait.api.template.evaluate import MAX_STEPS
from plait.api.template.formatting import MAX_STRING
from plait.api.template.functions import NAMES
from plait.api.template.parser import MAX_DEPTH, MAX_LENGTH

REPORT: dict[str, Any] = {
    "Ready": True,
    "Version": "2.8<&>",
    "VersionCheck": {"Enabled": False, "NewVersion": ""},
    "Router": {
        "Protocol": "weave",
        "Port": 6783,
        "Encryption": True,
        "Name": "8e:a5",
        "Peers": [
            {"Name": "8e:a5", "NickName": "one", "UID": 7, "Connections": None},
            {"Name": "9f:b6", "NickName": "two", "UID": -8, "Connections": [{"Name": "8e:a5", "Established": True}]},
        ],
        "Connections": [
            {"Address": "10.0.0.1:6783", "Attrs": {"name": "sleeve", "mtu": 1438, "encrypted": False}},
            {"Address": "10.0.0.2:6783", "Attrs": None},
        ],
        "Targets": ["a", "b"],
        "MACs": None,
        "OverlayDiagnostics": {"sleeve": None},
        "CaptureStats": None,
        "Load": 1.5,
        "Empty": "",
    },
    "IPAM": {"DefaultSubnet": "10.32.0.0/12", "ActiveIPs": 3, "Entries": ["x"]},
    "Plugin": None,
}


def output(text: str, data: object = REPORT) -> str:
    made, failure = execute(parse(text), data)
    assert failure is None
    return made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("{{.Router.Name}}", "8e:a5"),
        ('{{range .Router.Targets}}{{.}}{{"\\n"}}{{end}}', "a\nb\n"),
        ("{{len .Router.Peers}}", "2"),
        ("{{len .IPAM.Entries}}", "1"),
        ("{{json .IPAM}}", '{"DefaultSubnet":"10.32.0.0/12","ActiveIPs":3,"Entries":["x"]}'),
        ("{{json .DNS}}", "null"),
        ("{{.VersionCheck.Enabled}}", "false"),
        ("{{.IPAM.DefaultSubnet}}", "10.32.0.0/12"),
        ("{{len .Router.MACs}}", "0"),
        ("{{.Router.MACs}}|{{.Router.CaptureStats}}|{{.DNS}}|{{.Router.OverlayDiagnostics}}",
         "[]|map[]|<nil>|map[sleeve:<nil>]"),
        ("{{.Router.OverlayDiagnostics.sleeve}} {{.Router.OverlayDiagnostics.none.x}}", "<no value> <no value>"),
        ("{{range .Router.Connections}}{{.Attrs.name}} {{.Attrs.mtu}};{{end}}", "sleeve 1438;<no value> <no value>;"),
        ("{{(index .Router.Connections 0).Attrs}}", "map[encrypted:false mtu:1438 name:sleeve]"),
        ("{{json .Router.Connections}}",
         '[{"Address":"10.0.0.1:6783","Attrs":{"encrypted":false,"mtu":1438,"name":"sleeve"}},'
         '{"Address":"10.0.0.2:6783","Attrs":null}]'),
        ("{{.VersionCheck}} {{.Router.Targets}} {{.Router.Load}}", "{false } [a b] 1.5"),
        ("{{range $i, $t := .Router.Targets}}{{if $i}}, {{end}}{{$i}}={{$t}}{{end}}", "0=a, 1=b"),
        ("{{range $k, $v := .VersionCheck}}{{$k}}={{$v}};{{end}}", "Enabled=false;NewVersion=;"),
        ("{{range .Router.MACs}}x{{else}}none{{end}}", "none"),
        ('{{range .Router.Targets}}{{if eq . "b"}}{{break}}{{end}}{{.}}{{end}}', "a"),
        ('{{range .Router.Targets}}{{if eq . "a"}}{{continue}}{{end}}{{.}}{{end}}', "b"),
        ("{{range .Router.Targets}}\n  {{- .}},\n{{- end}}", "a,b,"),
        ("{{with .DNS}}{{.Domain}}{{else}}off{{end}}", "off"),
        ("{{with $x := .IPAM}}{{$x.ActiveIPs}} {{.ActiveIPs}} {{$.Ready}}{{end}}", "3 3 true"),
        ("{{if .DNS}}d{{else if .IPAM}}i{{else}}n{{end}}", "i"),
        ("{{if .Router.Empty}}a{{else}}b{{end}}", "b"),
        ("{{$x := 1}}{{if true}}{{$x = 3}}{{$x := 9}}{{$x}}{{end}}{{$x}}", "93"),
        ('{{or .Router.Empty "none"}} {{and 0 .Foo}} {{or 1 .Foo}} {{not 1}}', "none 0 1 false"),
        ('{{eq 1 2 1}} {{ne "a" "b"}} {{lt 1 2}} {{le 2 2}} {{gt 2.5 1.5}} {{ge "a" "b"}}',
         "true true true true true false"),
        ("{{.Router.Targets | len | printf \"%03d\"}} {{((len .Router.Name))}}", "002 5"),
        ("{{index .Router.Targets 1}} {{index .Router.Name 0}}", "b 56"),
        ('{{print 1 2 "a" "b" 3 4 nil}}|{{println "a" 1}}', "1 2ab3 4 <nil>|a 1\n"),
        ('a {{- " b " -}} c', "a b c"),
        ("a  {{- /* c */ -}}  b{{/* d */}} e", "ab e"),
        ("{{-3}} {{0x1F}} {{'a'}} {{1e3}} {{1e21}} {{100000000.5}} {{1.50}}",
         "-3 31 97 1000 1e+21 1.000000005e+08 1.5"),
        (r'{{"a\tb\x41\u00e9"}} {{`raw\n`}} {{"}}"}} }}', "a\tbA\u00e9 raw\\n }} }}"),
    ],
)  # fmt: skip
def test_prints_what_go_prints(text: str, expected: str) -> None:
    assert output(text) == expected


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ('"%d|%5d|%-5d|%05d|%+d|%x|%X" 1 2 3 -4 5 255 255', "1|    2|3    |-0004|+5|ff|FF"),
        ('"%s|%5s|%-10s|%q|%x|%.2s|" "a" "b" "c" "d\\n" "hi" "cut"',
         'a|    b|c         |"d\\n"|6869|cu|'),
        ('"%v %t %5t %v" true false true 1.5', "true false  true 1.5"),
        ('"%f %05.1f %.2f %e %g" 1.5 2.25 3.14159 1e10 1e-7', "1.500000 002.2 3.14 1.000000e+10 1e-07"),
        ('"%d %s %t %f" "x" 3 1 1', "%!d(string=x) %!s(int=3) %!t(int=1) %!f(int=1)"),
        ('"%d %d" 1', "1 %!d(MISSING)"),
        ('"a" 1 "b"', "a%!(EXTRA int=1, string=b)"),
        ('"%% 100%"', "% 100%!(NOVERB)"),
        ('"%v %s" nil nil', "<nil> %!s(<nil>)"),
        ('"%*d|%-*d|" 4 1 4 2', "   1|2   |"),
        ('"%3s|%d" .Router.Targets .Router.Targets', "[  a   b]|[%!d(string=a) %!d(string=b)]"),
        ('"%+v" .IPAM', "{DefaultSubnet:10.32.0.0/12 ActiveIPs:3 Entries:[x]}"),
        ('"%9999999d" 1', "%!(BADWIDTH)1"),
    ],
)  # fmt: skip
def test_printf_formats_like_go(call: str, expected: str) -> None:
    assert output("{{printf " + call + "}}") == expected


def test_json_escapes_what_go_escapes() -> None:
    assert output("{{json .Version}}") == r'"2.8\u003c\u0026\u003e"'
    assert output("{{json .}}", {"B": '\x01\u2028\n"', "A": [1.0, 1e21, 1e-7, 0.000001, True, None]}) == (
        '{"B":"\\u0001\\u2028\\n\\"","A":[1,1e+21,1e-7,0.000001,true,null]}'
    )


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("{{.A", 1, "unclosed action"),
        ("{{", 1, "unclosed action"),
        ("x\n\n{{.A", 3, "unclosed action"),
        ("{{\n.A", 2, "unclosed action started at format:1"),
        ("{{}}", 1, "missing value for command"),
        ("{{if}}x{{end}}", 1, "missing value for if"),
        ("a\n{{range}}", 2, "missing value for range"),
        ("{{if true}}x", 1, "unexpected EOF"),
        ("{{end}}", 1, "unexpected {{end}}"),
        ("a\n{{else}}", 2, "unexpected {{else}}"),
        ("{{if 1}}{{else}}{{else}}{{end}}", 1, "expected end; found {{else}}"),
        ("{{foo .X}}", 1, 'function "foo" not defined'),
        ("{{$y.X}}", 1, 'undefined variable "$y"'),
        ("{{if $y := 1}}{{end}}{{$y}}", 1, 'undefined variable "$y"'),
        ('{{"abc}}', 1, "unterminated quoted string"),
        ("{{`abc}}", 1, "unterminated raw quoted string"),
        ("{{1x}}", 1, 'bad number syntax: "1x"'),
        ("{{(1}}", 1, "unclosed left paren"),
        ("{{/* a", 1, "unclosed comment"),
        ("{{.A | 3}}", 1, "non executable command in pipeline stage 2"),
        ("{{break}}", 1, "{{break}} outside {{range}}"),
        ('{{"a""b"}}', 1, r'unexpected "\"b\"" in operand'),
        ('{{template "x"}}', 1, "{{template}} is not supported in a report's format"),
    ],
)
def test_a_text_that_is_no_template_is_refused_in_the_words_of_go(text: str, line: int, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        parse(text)
    assert str(caught.value) == f"template: format:{line}: {message}"


@pytest.mark.parametrize(
    ("text", "made", "failure"),
    [
        ("{{.Foo}}", "", "1:2: <.Foo>: can't evaluate field Foo in type Report"),
        ("a\nb {{.Router.Foo}}", "a\nb ", "2:11: <.Router.Foo>: can't evaluate field Foo in type Router"),
        ("\u00fc{{.Router.Name.Foo}}", "\u00fc", "1:11: <.Router.Name.Foo>: can't evaluate field Foo in type string"),
        ("{{len .DNS.Entries}}", "", "1:10: <.DNS.Entries>: nil pointer evaluating *DNS.Entries"),
        ("{{.Plugin.Config}}", "", "1:9: <.Plugin.Config>: nil pointer evaluating *Plugin.Config"),
        ("{{range .Router.Targets}}{{.}}{{.X}}{{end}}", "a", "1:32: <.X>: can't evaluate field X in type string"),
        ("{{range .Router.Port}}{{end}}", "", "1:15: <.Router.Port>: range can't iterate over 6783"),
        ("{{len}}", "", "1:2: <len>: wrong number of args for len: want 1 got 0"),
        ("{{len 3}}", "", "1:2: <len 3>: error calling len: len of type int"),
        ('{{eq 1 "a"}}', "", '1:2: <eq 1 "a">: error calling eq: incompatible types for comparison'),
        ("{{index .Router.Targets 5}}", "",
         "1:2: <index .Router.Targets 5>: error calling index: index out of range: 5"),
        ("{{nil}}", "", "1:2: <nil>: nil is not a command"),
        ("{{.Ready 1}}", "", "1:2: <.Ready>: Ready has arguments but cannot be invoked as function"),
    ],
)  # fmt: skip
def test_a_failure_keeps_the_output_before_it(text: str, made: str, failure: str) -> None:
    place, at, message = failure.split(": ", 2)
    assert execute(parse(text), REPORT) == (made, f'template: format:{place}: executing "format" at {at}: {message}')


def test_depth_length_output_and_work_are_bounded() -> None:
    deep = "{{if 1}}" * MAX_DEPTH + "x" + "{{end}}" * MAX_DEPTH
    assert output(deep) == "x"
    for text in (
        "{{if 1}}" + deep + "{{end}}",
        "{{" + "(" * 9999 + "1" + ")" * 9999 + "}}",
        "x" * (MAX_LENGTH + 1),
        "{{$x := 1}}" * 1000,
    ):
        with pytest.raises(TemplateError):
            parse(text)
    loops = "{{range $.L}}" * 8 + "{{end}}" * 8
    assert f"more than {MAX_STEPS} steps" in str(execute(parse(loops), {"L": list(range(30))})[1])
    doubling = "{{$x := `xxxxxxxx`}}" + "{{$x = print $x $x}}" * 40
    assert f"longer than {MAX_STRING}" in str(execute(parse(doubling), {})[1])
    made, failure = execute(parse("{{range .L}}{{$.S}}{{end}}"), {"L": [0] * 100, "S": "x" * 100_000})
    assert len(made) <= MAX_STRING
    assert "output is longer" in str(failure)


def test_data_nested_too_deep_are_a_failure() -> None:
    data: object = []
    for _ in range(5000):
        data = [data]
    assert execute(parse("x{{.}}"), data)[1] is not None


_PIECES = st.sampled_from(
    [
        "{{",
        "}}",
        "{{- ",
        " -}}",
        "(",
        ")",
        "|",
        " ",
        " ",
        ".",
        ",",
        ":=",
        "=",
        "$",
        "$x",
        "if ",
        "else",
        "end",
        "range ",
        "with ",
        "break",
        "continue",
        "nil",
        "true",
        "len ",
        "index ",
        "printf ",
        "print ",
        "json ",
        "eq ",
        "lt ",
        "and ",
        "or ",
        "not ",
        ".Router",
        ".Peers",
        ".Targets",
        ".Attrs",
        ".Connections",
        ".DNS",
        ".MACs",
        ".CaptureStats",
        ".Name",
        "1",
        "-2",
        "0x",
        "1.5",
        '"%d %v"',
        '"%*.*f%q"',
        '"name"',
        "`r`",
        "'c'",
        "/*",
        "*/",
        "\n",
        "{{end}}",
        "{{else}}",
        "{{range .Router.Connections}}",
        "{{if .Ready}}",
        "{{with .Router}}",
        "{{$x := 1}}",
        "{{.}}",
        "x",
        "\ud800",
    ]
)
_OPERANDS = st.sampled_from(
    [
        ".",
        "$",
        "$.Router",
        "$.Router.Targets",
        "$.Router.Connections",
        "$.Router.Peers",
        "$.DNS",
        "$.Router.MACs",
        "nil",
        "$.Router.CaptureStats",
        "$.Router.Load",
        "0",
        "1",
        "-1",
        "2.5",
        "1e300",
        "true",
        '"a"',
        '"%d%x%q%5.2f%c"',
        '"%*v"',
        '"%U%o%b%e%t%s"',
        '"%-08.3v%+q%#x% X"',
        "'x'",
        "$.Router.OverlayDiagnostics.x",
        "(index $.Router.Targets 0)",
    ]
)
_NAMES = st.sampled_from(sorted(NAMES))
_CALLS = st.builds(lambda name, args: " ".join([name, *args]), _NAMES, st.lists(_OPERANDS, max_size=4))
_ACTIONS = st.one_of(
    st.lists(_CALLS | _OPERANDS, min_size=1, max_size=3).map(lambda parts: "{{" + " | ".join(parts) + "}}"),
    st.builds(lambda call: "{{range " + call + "}}{{.}}{{else}}e{{end}}", _CALLS | _OPERANDS),
    st.builds(lambda call: "{{with $y := " + call + "}}{{$y}}{{json .}}{{end}}", _CALLS | _OPERANDS),
)


@settings(max_examples=400)
@given(st.lists(_PIECES, max_size=25).map("".join) | st.text(max_size=30) | st.lists(_ACTIONS, max_size=3).map("".join))
def test_any_text_is_refused_or_executed(text: str) -> None:
    try:
        template = parse(text)
    except TemplateError:
        return
    made, failure = execute(template, REPORT)
    assert failure is None or failure.startswith("template: format:")
    assert isinstance(made, str)


@settings(max_examples=200)
@given(_ACTIONS)
def test_any_action_is_parsed_or_refused_and_never_breaks_the_evaluator(text: str) -> None:
    samples: list[object] = [REPORT, None, [], "text", 1, {"Attrs": {"a": [{}]}}]
    for data in samples:
        try:
            execute(parse(text), data)
        except TemplateError:
            return
