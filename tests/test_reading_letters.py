"""The letter that was chosen is found, however the answer says it, and none where it chooses none or two."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.reading.letters import choice_text, chosen_letter, chosen_letters
from tests.shared import SHARED

TABLE = SHARED / "reference" / "extraction.json"
LETTERS = "ABCDEFGHIJ"


def rows(*steps: str) -> list[dict[str, Any]]:
    return [row for row in json.loads(TABLE.read_text(encoding="utf-8"))["rows"] if row["step"] in steps]


@pytest.mark.skipif(not TABLE.is_file(), reason="the table of right values is not at hand")
def test_every_row_of_the_shared_table_is_right() -> None:
    for row in rows("letter"):
        assert chosen_letter(row["text"], LETTERS) == row["expected"], row
    for row in rows("choice_text"):
        assert choice_text(row["text"]["text"], row["text"]["choices"], LETTERS) == row["expected"], row


#: What answers say, by the letter that is meant: one a line.
SAID: dict[str | None, str] = {
    "B": r"""
        The answer is B
        The correct answer is: **B**
        The answer is (B).
        The answer should be B, since A and C fail.
        The best answer would be B.
        The answer, as far as I can tell, is B.
        The answer to the second question is B.
        The answer is Paris (B).
        The answer is Paris, option B.
        The final answer is B. I hope it is correct.
        So the answer is (B).
        my final answer: **(B)**
        Answer:B
        ANSWER: B</s>
        Ans. B
        Answer (B)
        Correct option: B) 42
        {"answer": "B", "sure": true}
        <answer>B</answer>
        final_answer = B
        Answer\nB
        ## Final answer\n\nB) Paris
        The correct answer is:\n\nB) Paris
        So A, at first.\n\n**Final answer**\n\nB) Paris
        Correct option B. The second largest is C.
        Answer A describes a cell. The one asked for is B.
        B is true. The smallest is A.
        I would pick A. Yet B is the right answer.
        Answer choices:\nA) x\nB) y\nI choose B.
        Letter of the right choice: B
        I choose B over C
        I'd go with B.
        My guess: B
        I think B.
        So it must be B.
        Therefore, the largest is B.
        It's B!
        No, B.
        B is the correct answer.
        B is right because A is too small
        Only B is correct.
        B's the answer
        (B) is correct since (A) is hot and (C) is cold.
        B makes the most sense
        B it is
        Probably B
        B, I think
        B?
        B because it is the largest
        This corresponds to option B.
        If the answer was A, it would be odd. It is not, so B.
        Is it A? No. It is B.
        A or C? I say B
        It is either A or B. A fails, so it must be B.
        The answer is A or B. As A is too small, it is B.
        The choice "option A" is tempting, but the correct choice is B
        While A is true, B is the better answer
        Although A is tempting, B is correct.
        At first I thought it was A, but it's B.
        A, C and D are true. Only B is false. So B.
        The incorrect statement is B.
        The one that is not true is B.
        I'm between A and B, but leaning towards B.
        A) Berlin - wrong\nB) Paris - correct\nC) Rome - wrong
        A. Incorrect - too small.\nB. Correct - as it should be.
        - (A): false\n- (B): true
        A ❌\nB ✅
        A) Paris, which lies in France. ✗\nB) Rome, as one knows. ✓\nC) Berlin – in Germany ✗
        A. Paris - No\nB. Rome - Yes\nC. Berlin - No
        - **A)** Paris ❌\n- **B)** Rome: it is so ✅\n- **C)** Berlin ❌
        A) x\nB) y\nAnswer: B
        A) x\nB) y\nC) z\n\nB
        **Correct answer: B. Paris**\n\n- **A. Berlin**: in Germany.\n- **C. Rome**: in Italy.
        B\n\nOption A is too small, and it cannot be C.
        B\n\nQuestion: Which is a drink?\nA) tea\nB) stone\nAnswer: A
        Question 1: The answer is (A)\nQuestion 2: The answer is (B)
        The answer is A. Wait, no, the answer is B.
        The answer is A... no, B.
        Answer: A. Correction: B.
        It is A. Hmm, let me recheck. It is B.
        The answer is B. There is no reason to choose A.
        The answer is B. Actually, C is a metal.
        The answer is A. \boxed{B}
        $\boxed{\textbf{(B)}\ 5}$
        \boxed{\text{B. Paris}}
        \boxed{42}, so B
        The answer is $\mathbf{(B)}$.
        The answer is 'B'
        The answer is ‘B’.
        The answer is <B>.
        The answer is _B_.
        “B”
        `B`
        「B」
        ```\nB\n```
        Ｂ
        （Ｂ）
        Ⓑ
        b
        (b) Paris
        b. Paris
        the answer is option b
        answer: b
        B) False
        The answer is (B) False
        Answer: B. No, it is not
        B (Paris)
        B - stone
        B: tea
        B) Paris is the capital, A) is not
        1. B
        E is the energy in J. This corresponds to option (B).
        not A, but B
        Rather than A, I'd choose B.
        Compared to A, B is larger.
        Not A or C; B.
        After ruling out A and C, B remains.
        A is wrong and so is C, the answer is B, not A
        A and C are false, so B
        There is no doubt that the answer is B.
        I don't think it's A; it's B.
        B, unlike A, is a mammal.
        The most applicable rule is (B).
        By elimination, B.
        We can discard A, C and D, which leaves B.
        While many think it's A) Sydney, it's actually B) Canberra.
        A common mistake is to choose A. The answer is B.
        Many people would choose A, but B is right.
        B) Canberra is correct; A) Sydney is the largest city.
        Short answer: B. Long answer: A is too small.
        Answer => B
        Instead the answer is B.
        A: B
        Q: Which one is it?\nA: (B).
        A) tea\nB) coal\n**A:** B
        A: it is too small\nB: it fits best.\nAnswer: B
        B — C would need a loop.
        B - A has no spin
        With a charge of 3 C, we get 6 J, which is option B.
        The answer is B. If the wire were longer, the answer would be C.
        Answer: B. Some may object that the right option is D, yet it is not listed.
        The answer is C. Wait, if the mass doubles, the answer is B.
        If both slits are open, then the answer is B.
        The answer is A at first sight. Although it is small, the answer is B.
        It may look odd, but the answer is B. It may not be C.
        Option A is logically false. Option B is as observed.
        A is historically inaccurate. Therefore B.
        All except B are wrong.
        All but (B) are incorrect.
        All are wrong except B.
        Except for B, all options are wrong.
        Except for B, no option is right.
        We can rule out all options except B.
        None of the options except B is correct.
        No option is right except B.
        None but B is true.
        - [ ] A\n- [x] B\n- [ ] C
        - [x] B\n- [ ] A
        * [ ] A: tea\n* [X] B: milk
        1. [ ] **A)** Paris\n2. [x] **B)** Rome
        I tick one:\n\n☐ A. Paris\n☑ B. Rome\n☐ C. Berlin
        ❌ A\n✅ B\n❌ C
        A. Paris [ ]\nB. Rome [x]
        A. Paris (incorrect)\nB. Rome (correct)
        A) Paris\nB) Rome ← correct\nC) Berlin
        The answer is B, because $\frac{A}{C
        The answer is $B
        Option B is correct because $$\frac{A}{
        - [ ] A: 3\n- [ ] B: 4\n\nMy choice: B
        - [ ] A\n- [x] B\n\nThe smallest is A.
        B uses $name, as it is a variable in PHP
        The larger one is B, the $n$th
        The larger one is B, by 5$
        The larger one is B, by \$a
        ❌ No. It is B
        • [ ] (A)\n• [X] (B)
        ✗ A. Paris\n✓ B. Rome
        It costs $12, and the larger one is B.
        The larger one of $A$ and $B$ is option B
        \( x = 5, so the answer is B.
        <tool_call>{"name": "look_up", "arguments": {"key": "A"}}</tool_call>\nThe answer is B.
        A tag such as `<tool_call>` is wrong, so B
    """,
    "C": r"""
        The correct answer is C. Option A is wrong because it is too small, and option D is too large.
        Answer: I think it is C
        The answer is a mammal, so C
        A dog is an animal, so C
        Either A or rather C
        The answer is C. In short, the answer is FACED.
        All except B are wrong? Let me see. The answer is C.
        All except B are wrong. But B is wrong as well, so C.
        Except for B, the answer is C
        - [x] Read it\n- [x] Compare A and B\n\nThe answer is C.
        - [ ] A\n- [x] B\n\nWait, the answer is C.
        ❌ Not B, but C
    """,
    "A": r"""
        The answer is A because it is hot
        the answer is a.
        A
        a)
        A is correct.
        A would be my choice, and B is wrong.
        A - stone
        A: stone
        A: 5
        A: C is too small
        THE ANSWER IS A
        The answer is A I believe
        Answer: A. Paris
        Option A is right; options B and C are not
        - [x] A\n- [ ] B
    """,
    "D": r"""
        My choice = D
        **D**
        d
        D. A and B are both correct.
        (D) A and C
        D) Both A and B
        D (A, B and C are all correct)
        The answer is D because both A and B are correct.
    """,
    "I": """
        I
        Answer: I
        Option I is correct
    """,
    None: r"""
        I cannot answer
        I'd say so
        I refuse. As an AI, I can't choose between A and B.
        There is no correct answer.
        None of the options A, B, C, or D is correct.
        A dog
        a dog
        the answer is an apple
        The answer is a Paris suburb
        Answer: A dog.
        A is wrong
        A is grammatically wrong
        Option A is incorrect: it is too small
        not A
        The answer isn't A.
        The answer cannot be A or B.
        A can be ruled out.
        eliminate A
        Although A seems plausible, it does not fit.
        A, C
        B/C
        B or C
        A & B
        A-C
        A – C are right
        Both A and B
        The answer is B/C
        The answer is A or B.
        The answer is both A and C.
        The correct answers are A) Paris and C) Rome.
        \boxed{A, C}
        B\nA
        We compare A and B. A is larger.
        A) Berlin\nB) Paris
        A: 12%, B: 80%, C: 8%
        ABCD
        CD
        BAD
        none of them
        don't know
        Z
        Vitamin C is in it
        The work that is done is 6 J.
        It draws I = 2 A
        The bulb takes 5 min at 3 C.
        25°C
        C++ and C#
        A+
        e.g. this
        U.S.A.
        John F. Kennedy
        C'est la vie
        B > A
        All except B are right.
        All are true except B.
        All except B and C are wrong.
        None of the options except B is wrong.
        No option is wrong except B.
        Not all except B are wrong.
        Are all except B wrong?
        If all except B were wrong
        The answer is all except B.
        - [x] A\n- [x] B\n- [ ] C
        ✅ A\n✅ B\n❌ C
        - [ ] A
        - [ ] A\n- [ ] B
        To do:\n- [x] check A\n- [ ] check B
        We have $\frac{A}{
        So $P(A
        We get \( x = A
        By Bayes, \[ P(A \mid B) = \frac{P(B
        The area is $\pi r^2 h + C
        Let $I$ be the current. Then $$I = \frac{5}{
        <tool_call>{"name": "add", "arguments": {"a": 12}}</tool_call>
        <tool_call>\n<function=add>{"a": 12}
        <function=add>{"a": 12}</function>
        [TOOL_CALLS][{"name": "add", "arguments": {"a": 12}}]
        <|python_tag|>{"name": "add", "parameters": {"a": 12}}
    """,
}


def lines(texts: str) -> list[str]:
    return [line.strip().replace("\\n", "\n") for line in texts.strip().splitlines()]


def misread(texts: str, letter: str | None) -> dict[str, str | None]:
    """Return the texts that are read otherwise, and how."""
    read = {text: chosen_letter(text, LETTERS) for text in lines(texts)}
    return {text: found for text, found in read.items() if found != letter}


@pytest.mark.parametrize("letter", SAID)
def test_an_answer_in_english(letter: str | None) -> None:
    assert misread(SAID[letter], letter) == {}


def test_an_empty_answer_chooses_nothing() -> None:
    assert chosen_letter("", LETTERS) is None
    assert chosen_letters(" \n", LETTERS) is None


#: The same in other languages: always B is meant.
FOREIGN = """
    Die richtige Antwort ist B, da A und C falsch sind.
    A ist eindeutig falsch. B stimmt.
    La respuesta es B. Si lloviera, la respuesta sería C.
    La réponse est B. Si la masse était nulle, la réponse serait A.
    La réponse A est totalement fausse, donc B
    Damit ist B die richtige Antwort.
    Ich entscheide mich für B
    Nicht A, sondern B
    A stimmt nicht. B stimmt.
    Weder A noch C, also B
    La réponse correcte est la B car A et D sont fausses.
    C'est la réponse B.
    A n'est pas correcte, donc B.
    La respuesta correcta es la opción B, ya que A y C son incorrectas.
    La respuesta no es A, sino B.
    A resposta correta é a letra B.
    Não é A. É B.
    Eu diria que é a B.
    La risposta esatta è la B, perché A è sbagliata.
    De juiste antwoord is B.
    Rätt svar är B.
    Poprawna odpowiedź to B.
    Správná odpověď je B.
    A helyes válasz: B
    Răspunsul corect este B.
    Правильный ответ — B, потому что A неверно.
    Правильным ответом является B.
    Η σωστή απάντηση είναι η B.
    Doğru cevap B'dir.
    A doğru değil, B doğru.
    الإجابة هي B
    الجواب الصحيح هو B لأن A خاطئ.
    התשובה הנכונה היא B.
    सही उत्तर (B) है।
    A सही नहीं है। B सही है।
    সঠিক উত্তর: B
    คำตอบคือB
    Đáp án đúng là B.
    Jawaban yang benar adalah B.
    答案是B。
    答案为B
    答案：【B】
    故選B。
    选B
    B选项正确
    A错误，B正确。
    排除A、C，选B。
    答案不是A，而是B。
    A、C、D正确，B错误，故选B
    除了B都错误。
    Alle Antworten außer B sind falsch.
    Toutes sauf B sont fausses.
    Todas las opciones excepto la B son falsas.
    Tutte tranne B sono sbagliate.
    Все, кроме B, неверны.
    正解はBです。
    Aは間違いです。Bを選びます
    AではなくB
    정답은 B입니다
    A가 아니라 B
    A는 맞지 않다. 따라서 정답은 B이다.
"""


def test_an_answer_in_another_language() -> None:
    assert misread(FOREIGN, "B") == {}


STATEMENTS = """
    The answer is {}.
    Answer: {}.
    The correct option is {}.
    I choose {}.
    So it must be {}.
    Die richtige Antwort lautet {}.
    La réponse est {}.
    La respuesta correcta es {}.
    Ответ: {}.
    答案是{}。
    正解は{}です。
    정답은 {}입니다.
    الإجابة هي {}.
"""
DRESSES = ("{}", "({})", "**{}**", "'{}'", "“{}”", "`{}`", "「{}」", "（{}）", "[{}]")
ASIDE = """
    {} is wrong.
    Option {} is incorrect: it is too small.
    It is not {}.
    We can rule out {}.
    Although {} seems plausible, it does not fit.
    {} ist falsch.
    {}错误。
"""


@given(
    st.sampled_from(lines(STATEMENTS)),
    st.sampled_from(DRESSES),
    st.permutations("ABCD"),
    st.lists(st.sampled_from(["stated", *lines(ASIDE)]), min_size=1, max_size=4, unique=True),
    st.sampled_from([" ", "\n", "\n\n"]),
)
def test_what_is_stated_is_meant_whatever_is_put_aside(
    statement: str, dress: str, letters: list[str], order: list[str], between: str
) -> None:
    meant, *others = letters
    stated = statement.format(dress.format(meant))
    aside = [one.format(other) for one, other in zip([one for one in order if one != "stated"], others, strict=False)]
    at = order.index("stated") if "stated" in order else 0
    text = between.join([*aside[:at], stated, *aside[at:]])
    assert chosen_letter(text, "ABCD") == meant
    assert chosen_letters(text, "ABCD") == frozenset(meant)


@pytest.mark.parametrize(
    ("labels", "text", "label"),
    [
        ("ABCD", "Answer: E", None),
        ("ABCD", "It is B, not E", "B"),
        ("XYZ", "It is Z", "Z"),
        ("abcd", "B", "b"),
        ("abcd", "the answer is c", "c"),
        (["(A)", "(B)"], "The answer is B.", "(B)"),
        # numbers are labels only where they can be nothing else
        ("1234", "3", "3"),
        ("1234", "(3)", "3"),
        ("1234", "3. Paris", "3"),
        ("1234", "③", "3"),
        ("1234", "Answer: 3", "3"),
        ("1234", "The answer to question 2 is 3.", "3"),
        ("1234", "The answer is Paris (3)", "3"),
        ("1234", "The most likely ending is (3).", "3"),
        ("1234", "There are 12 rows (3).", None),
        ("1234", "Option 2 is wrong, so 3", "3"),
        ("1234", "We add 1 and 2, then take 3 away. The answer is (4).", "4"),
        ("1234", "1. First we add.\n2. Then we divide.\n\nThe answer is 4.", "4"),
        ("1234", "정답은 ②번입니다", "2"),
        ("1234", "选3", "3"),
        ("1234", "It has 3 sides and 4 angles.", None),
        ("1234", "The answer is 3.5", None),
        ("1234", "The answer is about 3", None),
        ("1234", "Answer: 3 km", None),
        ("1234", "3,000", None),
        ("1234", "2 + 2", None),
        ("1234", "1, 3", None),
        (["i", "ii", "iii", "iv"], "The answer is (ii).", "ii"),
        (["i", "ii", "iii", "iv"], "IV", "iv"),
        (["i", "ii", "iii", "iv"], "I cannot say", None),
        ("АБВГ", "Правильный ответ — В.", "В"),
        ("АБВГ", "А неверно, поэтому Г", "Г"),
        ("АБВГ", "В Москве", None),
        ("甲乙丙丁", "答案是乙", "乙"),
        ("甲乙丙丁", "甲不对，应选丙。", "丙"),
        ("甲乙丙丁", "甲状腺", None),
        ("ㄱㄴㄷ", "정답은 ㄴ입니다", "ㄴ"),
        ("ㄱㄴㄷ", "ㄱ, ㄷ", None),
        ("アイウエ", "答えはイです", "イ"),
        ("アイウエ", "アメリカ", None),
        ("أبجد", "الإجابة هي ب", "ب"),
        ("กขคง", "คำตอบคือ ข", "ข"),
        (["yes", "no"], "The answer is no.", "no"),
    ],
)
def test_labels_may_be_others_than_letters_from_a_on(labels: str | list[str], text: str, label: str | None) -> None:
    assert chosen_letter(text, labels) == label


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("A", "A"),
        ("A, C", "AC"),
        ("A and C", "AC"),
        ("A\nC", "AC"),
        ("AC", "AC"),
        ("Answer: ACE", "ACE"),
        ("答案是ABD。", "ABD"),
        ("The answers are A and C, as B is wrong", "AC"),
        ("The correct answers are A) Paris and C) Rome.", "AC"),
        ("The correct options are:\n\nA) Paris, as it is in France\nC) Rome", "AC"),
        ("- A) Paris\n- C) Rome", "AC"),
        ("A) x\nB) y\nC) z\nAnswer: B, C", "BC"),
        ("A: correct. B: incorrect. C: correct.", "AC"),
        ("Both A and D are correct, B is not.", "AD"),
        ("Correct: A, C. Incorrect: B, D.", "AC"),
        ('{"answer": ["A", "C"]}', "AC"),
        (r"\boxed{\text{A and C}}", "AC"),
        ("Las respuestas correctas son A y D", "AD"),
        ("B, since A and C fail", "B"),
        ("All except A and C are wrong", "AC"),
        ("We can rule out all except A and C.", "AC"),
        ("The answer is all except B", ""),
        ("- [x] A\n- [ ] B\n- [x] C", "AC"),
        ("☑ A) x\n☐ B) y\n☑ C) z", "AC"),
        ("- [ ] A\n- [ ] B", ""),
        ("Take $A$ and $B$. Then $A", ""),
        ("A or C", ""),
        ("The answer is A or C.", ""),
        ("BAD", ""),
        ("I cannot answer", ""),
    ],
)
def test_several_letters_may_be_chosen(text: str, letters: str) -> None:
    assert (chosen_letters(text, "ABCDE") or frozenset()) == set(letters)


CITIES = ["Sydney", "Canberra", "Perth"]


@pytest.mark.parametrize(
    ("text", "choices", "label"),
    [
        ("I'd go with Canberra.", CITIES, "B"),
        ("**CANBERRA**", CITIES, "B"),
        ("Canberrans", CITIES, None),
        ("Not Sydney but Canberra", CITIES, None),
        ("It's not Sydney.", CITIES, None),
        ("Sydney is wrong.", CITIES, None),
        ("", CITIES, None),
        ("Paris, Texas", ["Paris", "Paris, Texas"], "B"),
        ("Paris", ["Paris", "Paris, Texas"], "A"),
        ("Paris and Paris, Texas", ["Paris", "Paris, Texas"], None),
        ("cafe\u0301", ["tea", "Café"], "B"),
        ("我觉得是东京。", ["北京", "东京"], "B"),
        ("東京都", ["東京", "東京都"], "B"),
        ("คำตอบคือกรุงเทพ", ["เชียงใหม่", "กรุงเทพ"], "B"),
        ("हिन्दी है", ["हिन्दू", "हिन्दी"], "B"),
        ("It is 3.5 m", ["3", "3.5"], "B"),
        ("It is 3.", ["3", "3.5"], "A"),
        ("It is −5", ["5", "-5"], "B"),
        ("the same", ["same", "Same"], None),
        ("nothing", ["", "?!"], None),
    ],
)
def test_the_text_of_a_choice_stands_for_it(text: str, choices: list[str], label: str | None) -> None:
    assert choice_text(text, choices, "ABCD") == label


@pytest.mark.parametrize(
    ("text", "choices", "label"),
    [
        ("I'd go with Canberra.", CITIES, "B"),
        ("The answer is C, not Canberra", CITIES, "C"),
        ("A (Sydney) is wrong", CITIES, None),
        ("A Paris", ["Rome", "Paris"], "B"),
        ("It is in C major", ["A minor", "C major"], "B"),
        (r"not Sydney: \boxed{\text{Perth}}", CITIES, "C"),
        ("B", ["B", "A"], "B"),
    ],
)
def test_a_letter_that_is_stated_outranks_a_text_and_that_a_letter_in_passing(
    text: str, choices: list[str], label: str | None
) -> None:
    assert chosen_letter(text, "ABC", choices) == label


@given(
    st.text(max_size=60) | st.text("AaBIi1.,:;)(*'\" \nnotiswrg是错B", max_size=40),
    st.sampled_from([LETTERS, "1234", "甲乙丙丁"]),
)
def test_no_text_is_too_odd(text: str, labels: str) -> None:
    letter = chosen_letter(text, labels)
    assert letter is None or letter in labels
    assert (chosen_letters(text, labels) or frozenset()) <= set(labels)


MANY = 200_000
HOSTILE = [
    *(part * (MANY // len(part)) for part in (" ", "\n", "(", "answer is ", "not ", "a", "AB", "1", "\nQ")),
    "\u0301\u0316" * 60_000,
    *("A" + " " * MANY, "A" + "*" * MANY + "x", "A" + "\n" * MANY + "B", "answer" + " " * MANY + ":" + " " * MANY + "A"),
    *("A x " * 10_000, "A or " * 10_000, "- [x] A\n" * 10_000, "\\(" * 100_000, "$x" * 100_001, "<tool_call>" * 10_000),
]


@pytest.mark.long
@pytest.mark.parametrize("text", HOSTILE, ids=[f"{text[:10]}… {text[-5:]}" for text in HOSTILE])
def test_a_long_text_takes_no_longer_by_letter_than_a_short_one(text: str) -> None:
    chosen_letter(text, "ABCD", ["Paris", text[:100], text[1:]])
