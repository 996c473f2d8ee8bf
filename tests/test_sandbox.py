"""No template gets out of the sandbox, changes what it reads, loops for ever or fills the memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

import pytest

from runner.errors import RowError
from runner.output import Output
from runner.templates.compile import TemplateMistake, compile_template
from runner.templates.limits import LONGEST_S, MOST_STEPS
from runner.types import ErrorType
from tests.variations import some

ITEM: dict[str, Any] = {
    "text": "a b c",
    "n": 3,
    "list": [1, 2, 3],
    "map": {"k": "v"},
    "tree": [{"name": "a", "below": [{"name": "b", "below": []}]}],
    "rows": [{"x": 1}, {"x": 2}],
    "big": "x" * (1 << 20),
    "long": list(range(1000)),
    "answer": Output("text", reasoning="because"),
}

STEPS = "steps"
LARGE = "larger than 16 MiB"
IN_ALL = "128 MiB of texts and lists in all"
BITS = "bits"
HUGE = "9999999999"
DOUBLING = "{% set n = namespace(a='xx') %}{% for _ in range(99) %}"

TOO_MUCH = [
    # loops and calls
    ("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", STEPS),
    ("{% for a in item.long %}{% for b in item.long %}x{% endfor %}{% endfor %}", STEPS),
    ("{% for a in range(99999) %}{% endfor %}{% for a in range(99999) if a > 1e9 %}{% endfor %}", STEPS),
    ("{% for a in item.long recursive %}{{ loop(item.long) if loop.depth < 4 else 'x' }}{% endfor %}", STEPS),
    ("{% macro m(n) %}{% for _ in range(9) %}{{ m(n - 1) if n }}{% endfor %}{% endmacro %}{{ m(9) }}", STEPS),
    ("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(1) }}", "RecursionError"),
    ("{% for c in item.big %}{% endfor %}", STEPS),
    ("{% for a in range(10000000000) %}{% endfor %}", "Range too big"),
    # texts by operators
    (DOUBLING + "{% set n.a = n.a ~ n.a %}{% endfor %}", LARGE),
    (DOUBLING + "{% set n.a = n.a + n.a %}{% endfor %}", LARGE),
    (DOUBLING + "{% set n.a = n.a * 2 %}{% endfor %}", LARGE),
    (DOUBLING + "{% set n.a = '%s%s' % (n.a, n.a) %}{% endfor %}", LARGE),
    (DOUBLING + "{% set n.a = '{0}{0}'.format(n.a) %}{% endfor %}", LARGE),
    (DOUBLING + "{% set n.a = '{x}{x}'.format_map({'x': n.a}) %}{% endfor %}", LARGE),
    (DOUBLING + "{% set n.a = [n.a, n.a] | join %}{% endfor %}", LARGE),
    (DOUBLING + "{% set n.a = ''.join([n.a, n.a]) %}{% endfor %}", LARGE),
    (DOUBLING + "{% set n.a = n.a.replace('x', 'xx') %}{% endfor %}", LARGE),
    (DOUBLING + "{% set n.a = n.a | replace('', 'x') %}{% endfor %}", LARGE),
    (DOUBLING + "{% set n.a %}{{ n.a }}{{ n.a }}{% endset %}{% endfor %}", LARGE),
    (DOUBLING + "{% set n.a = n.a.translate({120: 'xx'}) %}{% endfor %}", LARGE),
    ("{% for _ in range(99) %}{{ item.big }}{% endfor %}", LARGE),
    ("{{ 'x' * " + HUGE + " }}", LARGE),
    ("{{ " + HUGE + " * 'x' }}", LARGE),
    ("{{ '%" + HUGE + "d' % 1 }}", LARGE),
    ("{{ '%*d' % (" + HUGE + ", 1) }}", LARGE),
    ("{{ '%.*f' % (" + HUGE + ", 1) }}", LARGE),
    ("{{ '%" + HUGE + "d' | format(1) }}", LARGE),
    ("{{ '{:" + HUGE + "}'.format(1) }}", LARGE),
    ("{{ '{:{}}'.format('x', " + HUGE + ") }}", LARGE),
    ("{{ '{:{}}'.format('x', '>" + HUGE + "') }}", LARGE),
    ("{{ 'x'.center(" + HUGE + ") }}", LARGE),
    ("{{ 'x'.ljust(" + HUGE + ") }}", LARGE),
    ("{{ 'x'.rjust(width) }}".replace("width", HUGE), LARGE),
    ("{{ 'x'.zfill(" + HUGE + ") }}", LARGE),
    ("{{ 'x'.encode().center(" + HUGE + ") | length }}", LARGE),
    ("{{ '\\t'.expandtabs(" + HUGE + ") }}", LARGE),
    ("{{ '\\t'.expandtabs(tabsize=" + HUGE + ") }}", LARGE),
    ("{{ (1).to_bytes(" + HUGE + ", 'big') | length }}", LARGE),
    ("{{ item.big.replace('x', item.big) }}", LARGE),
    ("{{ item.big.join(item.long | map('string')) }}", LARGE),
    ("{{ item.big | list | join(item.big) }}", LARGE),
    ("{{ item.long | join(item.big) }}", LARGE),
    # by filters
    ("{{ 'x' | center(" + HUGE + ") }}", LARGE),
    ("{{ ['x'] | map('center', " + HUGE + ") | list }}", LARGE),
    ("{% filter center(" + HUGE + ") %}x{% endfilter %}", LARGE),
    ("{{ 'x\\ny' | indent(" + HUGE + ") }}", LARGE),
    ("{{ item.text | indent(item.big * 16, true) }}", LARGE),
    ("{{ item.long | join(' ') | wordwrap(1, wrapstring=item.big) }}", LARGE),
    ("{{ [1] | batch(" + HUGE + ", 'x') | list }}", LARGE),
    ("{{ [1] | slice(" + HUGE + ") | list }}", LARGE),
    ("{{ [1] | tojson(" + HUGE + ") }}", LARGE),
    ("{{ lipsum(n=" + HUGE + ") }}", LARGE),
    ("{{ ('http://a.b ' * 9999) | urlize(target=item.big) }}", LARGE),
    ("{{ 5 | round(-" + HUGE + ") }}", "places"),
    ("{{ 5 | round(" + HUGE + ", 'ceil') }}", "places"),
    ("{{ item.big.strip(item.big) }}", "strips"),
    ("{{ item.big.encode('punycode') | length }}", "encoding"),
    # numbers
    ("{{ 10 ** (10 ** 10) }}", BITS),
    ("{{ (10 ** (10 ** 10)) % 7 }}", BITS),
    ("{% set n = namespace(a=9) %}{% for _ in range(99) %}{% set n.a = n.a * n.a %}{% endfor %}", BITS),
    # lists
    ("{{ [1] * " + HUGE + " }}", LARGE),
    ("{% set n = namespace(a=[1]) %}{% for _ in range(99) %}{% set n.a = n.a + n.a %}{% endfor %}", LARGE),
    ("{% set n = namespace(a=[1]) %}{% for _ in range(99) %}{% set n.a = [n.a, n.a] %}{% endfor %}", LARGE),
    ("{% set n = namespace(a=[1]) %}{% for _ in range(99) %}{% set n.a = {'a': n.a, 'b': n.a} %}{% endfor %}", LARGE),
    ("{% set n = namespace(a=[1]) %}{% for _ in range(99) %}{% set n.a = dict(a=n.a, b=n.a).values() %}{% endfor %}", LARGE),
    ("{% set n = namespace(a=[1]) %}{% for _ in range(99) %}{% set n.a = cycler(n.a, n.a).items %}{% endfor %}", LARGE),
    ("{% macro m(n) %}{{ m(n - 1, varargs, varargs) if n else varargs | string }}{% endmacro %}{{ m(60) }}", LARGE),
    ("{{ ([item.long * 9] * 999) | sum(start=[]) | length }}", LARGE),
    *some([("{{ ([item.long] * 999) | sum(start=[]) | length }}", IN_ALL)], 0),
    # much that is thrown away, or kept in pieces
    ("{% for i in range(9999) %}{% set x = item.big.upper() %}{% endfor %}", IN_ALL),
    ("{% set n = namespace(a=[]) %}{% for i in range(9999) %}{% set n.a = n.a + [item.big[i:]] %}{% endfor %}", IN_ALL),
    ("{% for i in range(9999) %}{% set x = item.big[i:] %}{% endfor %}", IN_ALL),
    ("{% for i in range(9999) %}{% set x %}{{ item.long }}{{ item.big }}{% endset %}{% endfor %}", IN_ALL),
]


@pytest.mark.long
@pytest.mark.parametrize(("template", "limit"), TOO_MUCH, ids=[one[:70] for one, _ in TOO_MUCH])
def test_a_template_that_wants_too_much_is_refused(template: str, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.templates.limits.LONGEST_S", float("inf"))  # each limit alone, on any machine
    render = compile_template(template, ("configuration", "prompt")).render
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RowError) as caught:
        render(ITEM)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert caught.value.failure.error_type is ErrorType.TEMPLATE
    assert limit in caught.value.failure.message
    assert caught.value.failure.message.startswith("configuration.prompt: ")
    assert grown_kib < 1 << 19


@pytest.mark.long
def test_a_template_that_takes_too_long_is_refused() -> None:
    template = compile_template("{% for a in range(99999) %}{{ 'yy' in item.big }}{% endfor %}")
    with pytest.raises(RowError, match=f"computes for more than {LONGEST_S:g} s"):
        template.render(ITEM | {"big": "xy" * (1 << 19)})


WORD = "x" * (1 << 20)
#: Multiples of what Python's hashes are counted by: all of them have the same hash.
COLLIDING = [number * (2**61 - 1) for number in range(20_000)]
NEEDLE = "a" * (1 << 18) + "b" + "a" * (1 << 18)

#: The values are made by the tests that need them: they are large.
TOO_SLOW: list[tuple[str, Callable[[], Any]]] = [
    # what would take seconds to minutes in one go is not begun
    ("{{ item.x | wordwrap(1) }}", lambda: WORD),
    ("{{ item.x | wordwrap(10) }}", lambda: "-" * (1 << 20)),
    ("{{ item.x | wordwrap(10) }}", lambda: "a\n" * (1 << 20)),
    ("{{ item.x | urlize }}", lambda: "http://a.b/" + "(" * (1 << 19) + "x" + ")" * (1 << 19)),
    ("{{ item.x | urlize }}", lambda: "a " * (1 << 19)),
    ("{{ item.x | striptags }}", lambda: "<a>" * (1 << 19)),
    ("{{ (item.x | safe).striptags() }}", lambda: "<!---->" * (1 << 18)),
    ("{{ item.x[0].rfind(item.x[1]) }}", lambda: ["a" * (1 << 20), NEEDLE]),
    ("{{ item.x[0].rindex(item.x[1]) }}", lambda: ["a" * (1 << 20), NEEDLE]),
    ("{{ item.x[0].rsplit(item.x[1]) }}", lambda: ["a" * (1 << 20), NEEDLE]),
    ("{{ item.x[0].rpartition(item.x[1]) }}", lambda: ["a" * (1 << 20), NEEDLE]),
    ("{{ item.x | sort }}", lambda: list(range(500_000))),
    ("{{ item.x | groupby('a') }}", lambda: [{"a": 1}] * 500_000),
    ("{{ item.x | max }}", lambda: WORD),
    ("{{ lipsum(n=99999999, min=-5, max=-1) }}", lambda: None),
    # the rest is ended by the clock
    ("{{ item.x | unique | list }}", lambda: COLLIDING),
    ("{{ dict(item.x) }}", lambda: [[number, 0] for number in COLLIDING]),
    ("{% for i in range(60) %}{% set x = item.x | sort %}{% endfor %}", lambda: [f"{n % 7919:08}" for n in range(50_000)]),
    ("{% for i in range(60) %}{% set x = item.x | wordcount %}{% endfor %}", lambda: "a " * (1 << 19)),
    ("{% for i in range(60) %}{% set x = item.x.count('ab') %}{% endfor %}", lambda: "a" * (4 << 20)),
    ("{% for i in range(9) %}{% for j in range(9) %}{{ 'ab' in item.x }}{% endfor %}{% endfor %}", lambda: "aa" * (4 << 20)),
    ("{{ range(99999) | map('string') | select('in', item.x) | list }}", lambda: WORD),
    ("{{ range(99999) | reject('in', item.x) | list }}", lambda: list(range(5_000))),
]


@pytest.mark.parametrize(("template", "value"), TOO_SLOW, ids=[one[:70] for one, _ in TOO_SLOW])
def test_a_template_that_is_slow_for_its_row_is_refused(
    template: str, value: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.templates.limits.LONGEST_S", 0.03)
    render, x = compile_template(template).render, value()
    began = time.thread_time()
    with pytest.raises(RowError, match=r"takes too long for a text or list of this size|computes for more than"):
        render({"x": x})
    assert time.thread_time() - began < 3


@pytest.mark.parametrize(
    ("template", "value", "length"),
    [
        ("{{ item.x | wordwrap(100) }}", "some words of prose " * 10_000, 201_000),
        ("{{ item.x | striptags }}", "<p>" + "a <b>word</b> of it " * 5_000, 64_999),
        ("{{ item.x | urlize }}", "see (http://a.b) for it " * 1_000, 24_000),
        ("{{ item.x.rsplit(' ', 1)[0] }}", "words " * 100_000, 599_999),
        ("{{ item.x | sort | join }}", ["b", "a"] * 10_000, 20_000),
        ("{{ dict(item.x) }}{{ dict({'a': 1}, b=2) }}", [["a", 1], ["b", 2]], 26),
    ],
)
def test_what_is_large_and_ordinary_is_not(template: str, value: object, length: int) -> None:
    assert abs(len(compile_template(template).render({"x": value})) - length) < 5_000


def test_the_allowance_is_each_rendering_s_own() -> None:
    template = compile_template("{% for a in range(" + str(MOST_STEPS * 2 // 3) + ") %}{% endfor %}{{ item.n }}")
    assert [template.render(ITEM) for _ in range(3)] == ["3", "3", "3"]


ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ ''['__cla' ~ 'ss__'] }}",
    "{{ '' | attr('__class__') }}",
    "{{ '' | attr('__cla' ~ 'ss__') }}",
    "{{ [''] | map(attribute='__class__') | list }}",
    "{{ [''] | map('attr', '__class__') | list }}",
    "{{ [''] | sum(attribute='__class__') }}",
    "{{ [''] | join(attribute='__class__') }}",
    "{{ ['', ''] | sort(attribute='__class__') }}",
    "{{ [''] | groupby('__class__') }}",
    "{{ [''] | selectattr('__class__') | list }}",
    "{{ '{0.__class__}'.format(item) }}",
    "{{ '{0[__class__]}'.format('') }}",
    "{{ '{x.__class__}'.format(x=item) }}",
    "{{ '{x.__class__}'.format_map({'x': item}) }}",
    "{{ ('{0.__class__}' | attr('format'))(item) }}",
    "{{ '{0.__class__}'['format'](item) }}",
    "{{ ('{0.__class__}' | safe).format(item) }}",
    "{% set f = '{0.__class__}'.format %}{{ f(item) }}",
    "{{ [1] | map(attribute='real.__class__') | list }}",
    "{{ item.__init__.__globals__ }}",
    "{{ item.answer.__class__ }}",
    "{{ item.answer._tool_calls }}",
    "{{ item.text.__init__.__globals__ }}",
    "{{ range.__self__ }}",
    "{{ range.__globals__ }}",
    "{{ lipsum.__globals__ }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ namespace.mro() }}",
    "{{ dict.mro() }}",
    "{{ dict.__base__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ self.__class__ }}",
    "{% for a in item.list %}{{ loop.__init__.__globals__ }}{% endfor %}",
    "{% for a in item.list %}{{ loop._iterable }}{% endfor %}",
    "{% macro m() %}{% endmacro %}{{ m.__globals__ }}",
    "{% macro m() %}{% endmacro %}{{ m._func }}",
    "{% macro m() %}{{ caller.__class__ }}{% endmacro %}{% call m() %}{% endcall %}",
    "{{ (item.list | map('string')).gi_frame }}",
    "{{ (item.list | map('string')).gi_code }}",
    "{{ (item.list | map('string')).gi_frame.f_back }}",
    "{{ (item.list | batch(2)).gi_frame }}",
    "{{ item.text.upper.__self__ }}",
    "{{ item.text.upper.__self__.__class__ }}",
    "{{ (1).__class__.__base__.__subclasses__() }}",
    "{{ item.missing.__class__ }}",
    "{% set n = namespace() %}{{ n.__class__ }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os }}",
    "{% extends 'x' %}",
    "{{ item.list.append(1) }}",
    "{% set _ = item.list.extend([4]) %}",
    "{% set _ = item.map.update({'a': 1}) %}",
    "{% set _ = item.map.clear() %}",
    "{% set _ = (item.list | attr('clear'))() %}",
    "{% set _ = item.list['clear']() %}",
]


@pytest.mark.parametrize("template", ESCAPES)
def test_no_way_leads_out_of_the_sandbox_or_changes_the_row(template: str) -> None:
    item = {"list": [1, 2, 3], "map": {"k": "v"}, "text": "t", "answer": Output("text")}
    with pytest.raises(RowError) as caught:
        compile_template(template).render(item)
    message = caught.value.failure.message
    assert any(word in message for word in ("unsafe", "undefined", "has no attribute", "no loader")), message
    assert (item["list"], item["map"]) == ([1, 2, 3], {"k": "v"})


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{% for a in item.list %}{{ a }}{{ '' if loop.last else ',' }}{% endfor %}", "1,2,3"),
        ("{% for a in item.list %}{{ loop.index }}/{{ loop.length }} {% endfor %}", "1/3 2/3 3/3 "),
        ("{% for a in range(200) %}{{ loop.length if loop.last }}{% endfor %}", "200"),
        ("{% for a in range(200) if a < 2 %}{{ a }}{{ loop.length }}{% else %}no{% endfor %}", "0212"),
        ("{% for a in [] %}{% else %}none{% endfor %}", "none"),
        ("{% for a in item.list | map('string') %}{{ a }}{{ loop.length }}{% endfor %}", "132333"),
        ("{% for k, v in item.map.items() %}{{ k }}={{ v }}{% endfor %}", "k=v"),
        ("{% for k in item.map %}{{ k }}{% endfor %}", "k"),
        ("{% for a, b in [(1, 2), (3, 4)] %}{{ a + b }} {% endfor %}", "3 7 "),
        ("{% for t in item.tree recursive %}{{ t.name }}({{ loop(t.below) }}){% endfor %}", "a(b())"),
        ("{% for c in item.text %}{{ loop.previtem | default('^') }}{% endfor %}", "^a b "),
        ("{% macro m(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, b=3) }}", "1213"),
        ("{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}x{% endcall %}", "<x>"),
        ("{% set n = namespace(s=0) %}{% for a in item.list %}{% set n.s = n.s + a %}{% endfor %}{{ n.s }}", "6"),
        ("{% set a, b = (1, 2) %}{{ a }}{{ b }}", "12"),
        ("{% set x %}a{{ item.n }}{% endset %}{{ x }}", "a3"),
        ("{% filter upper %}a{% endfilter %}", "A"),
        ("{{ item.text[1:] }}{{ item.text[:1] }}{{ item.text[::-1] }}{{ item.list[1:] }}", " b cac b a[2,3]"),
        ("{{ item.text ~ item.n ~ none ~ [1] ~ item.answer }}", "a b c3None[1]text"),
        ("{{ [item.n, 'a'] }}{{ {'a': item.n} }}{{ (item.n, 1) }}", '[3,"a"]{"a":3}[3,1]'),
        ("{{ item.n in [1, 3] }}{{ 'k' in item.map }}", "truetrue"),
        ("{{ item.n * 2 }}{{ 'ab' * 2 }}{{ [1] * 2 }}{{ 2 ** 10 }}{{ 2 ** -1 }}{{ 7 % 4 }}", "6abab[1,1]10240.53"),
        ("{{ '%s-%05.1f' % (item.n, 2) }}{{ '%(a)s' % {'a': 1} }}{{ '%s' | format(item.n) }}", "3-002.013"),
        ("{{ '{} {:>3} {a!r} {b[k]}'.format(item.n, 'x', a='q', b=item.map) }}", "3   x 'q' v"),
        ("{{ item.list | join(', ') }}{{ item.rows | join('-', attribute='x') }}{{ ['a', 1] | join }}", "1, 2, 31-2a1"),
        ("{{ item.list | sum }}{{ item.rows | sum(attribute='x') }}{{ [[1], [2]] | sum(start=[]) }}", "63[1,2]"),
        ("{{ item.list | map('string') | join }}{{ item.rows | map(attribute='x') | list }}", "123[1,2]"),
        ("{{ 'a' | center(5) }}|{{ 'a\nb' | indent(2) }}|{{ 'a b' | wordwrap(1) }}", "  a  |a\n  b|a\nb"),
        ("{{ item.list | batch(2, 'x') | list }}{{ item.list | slice(2) | list }}", '[[1,2],[3,"x"]][[1,2],[3]]'),
        ("{{ item.rows | groupby('x') | length }}{{ item.list | select('odd') | list }}", "2[1,3]"),
        ("{{ 'a'.center(3) }}{{ ','.join(['a', 'b']) }}{{ 'aXb'.replace('X', '-') }}", " a a,ba-b"),
        ("{{ 2.567 | round(1) }}{{ '7' | int + 1 }}{{ 'x'.encode() | length }}", "2.681"),
        ("{{ item.answer | upper }} {{ item.answer.reasoning }}", "TEXT because"),
        ("{{ item.map | tojson }}{{ item.list | tojson(indent=1) | length }}", '{"k": "v"}14'),
        ("{{ lipsum(n=1, min=2, max=3) | length > 2 }}", "true"),
        ("{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}", "ab"),
        ("{{ dict(a=1) }}{{ item.map.get('z', 9) }}", '{"a":1}9'),
    ],
)
def test_ordinary_templates_do_what_they_did(template: str, text: str) -> None:
    assert compile_template(template).render(ITEM) == text


def test_what_cannot_be_parsed_for_its_depth_is_a_mistake() -> None:
    with pytest.raises(TemplateMistake, match="does not parse"):
        compile_template("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}")


def test_a_text_of_several_mebibytes_comes_through() -> None:
    text = "wörd " * (1 << 20)
    assert compile_template("Read: {{ item.text | trim }}").render({"text": text}) == f"Read: {text.strip()}"
