"""Which number a text means, in all the ways that models and datasets write numbers; and none where nobody can tell."""

from __future__ import annotations

import json
import time
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.reading.numbers import Number, number
from tests.shared import SHARED

HALF, QUARTERS = Fraction(1, 2), Fraction(3, 4)
TABLE = SHARED / "reference" / "extraction.json"


def near(found: Number | None, wanted: Number | None) -> bool:
    if found is None or wanted is None:
        return found is wanted
    return abs(float(found) - float(wanted)) <= 1e-12 * abs(float(wanted))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        # whole numbers and decimals
        *(("42", 42), ("5.", 5), (".5", 0.5), ("It is .5", 0.5)),
        *(("-.5", -0.5), ("0.30", 0.3), ("...5", 5), ("0.333...", 0.333)),
        *(("9" * 30, int("9" * 30)), ("9" * 400, None), ("1e999", None), ("1e99999", None), ("0." + "3" * 5000, 1 / 3)),
        # thousands and decimal commas
        *(("1,234.50", 1234.5), ("1,234,567", 1234567), ("1,00,000", 100000), ("12,34,567.5", 1234567.5), ("1.234,50", 1234.5)),
        *(("1.234.567,89", 1234567.89), ("12,5", 12.5), ("0,123", 0.123), ("1234,567", 1234.567), ("12,34", 12.34)),
        *(("1 234 567", 1234567), ("1\u202f234", 1234)),
        *(("1\u00a0234,5", 1234.5), ("1\u2009234.5", 1234.5), ("1 234,50 €", 1234.5)),
        *(("1'234'567.5", 1234567.5), ("1’234", 1234), ("1٬234", 1234)),
        *(("1_000_000", 10**6), (r"1{,}234", 1234), (r"1\,234", 1234)),
        *((r"10,\!000", 10000), ("1\u200b234", 1234), ("1.234", 1.234), ("1,234", 1234)),
        *(("1.234.567", None), ("1,234,56", None), ("€1.234", None), ("1.234 €", None), ("(3,4)", None), ("1,2.3", None)),
        (".5.3", None),
        *(("1, 2, 3", 3), ("1,2,3", 3), ("2020 500", 500), ("1,234 5,678", 5678)),
        # signs
        *(("-3", -3), ("−3", -3), ("–3", -3), ("－3", -3), ("+3", 3)),
        *(("x = -3.5", -3.5), ("= - 3", -3), ("(−5)", -5), ('"-5"', -5)),
        *(("-$5", -5), ("$-5", -5), ("- $5", 5), ("−$1,200", -1200), ("-€5", -5), ("€-5", -5), ("-5 €", -5), ("US$-5", -5)),
        *(("-US$5", -5), ("EUR −5", -5), ("-USD 5", -5), (r"-\$5", -5), (r"$-\$5$", -5), ("$-5$", -5), ("-¥500", -500)),
        *(("minus 5", -5), ("a negative 5", -5), ("-(5)", -5), (r"-\left(\frac{1}{2}\right)", -HALF), ("~5", 5), ("≈ 5", 5)),
        *(("($5)", -5), ("Profit: ($1,200)", -1200), ("He pays five dollars ($5).", 5)),
        *(("10 -3", None), ("--5", None), ("±5", None), ("5 ± 0.1", 5), ("5 +/- 1", 5), (r"x = 5 \pm 0.1", 5)),
        # money
        *(("$18.", 18), ("$1.50", 1.5), ("₹1,00,000", 100000), ("Rs. 500", 500), ("Rs.500/-", 500), ("USD1200", 1200)),
        *(("CHF 1'234.50", 1234.5), ("£-3.50", -3.5), ("5€", 5), ("1.000,00 EUR", 1000), ("R$ 5", 5), ("5 zł", 5)),
        # fractions
        *(("3/4", QUARTERS), ("3 / 4", QUARTERS), ("-3/4", -QUARTERS)),
        *(("3⁄4", QUARTERS), ("³⁄₄", QUARTERS), ("¾ cup", QUARTERS)),
        *((r"\frac{3}{4}", QUARTERS), (r"\dfrac34", QUARTERS), (r"-\tfrac{3}{4}", -QUARTERS), (r"\frac{-3}{4}", -QUARTERS)),
        *((r"{3 \over 4}", QUARTERS), (r"\frac{1{,}000}{2000}", HALF), ("1.5/2", QUARTERS), ("3/0", None), ("1/2/3", None)),
        *(("½", HALF), ("1½", 3 * HALF), ("1 ½", 3 * HALF)),
        *(("2 1/2", 5 * HALF), ("-1½", -3 * HALF), (r"2\frac{1}{2}", 5 * HALF)),
        *((r"-2\frac12", -5 * HALF), ("2 3/2", None), ("2-1/2", None), (r"\frac{x}{4}", None), (r"\frac{\sqrt{3}}{2}", None)),
        # powers
        *(("2e-4", 2e-4), ("6.02E+23", 6.02e23), ("1.5 × 10^3", 1500), (r"1.5\times 10^{-3}", 0.0015), ("1.5·10³", 1500)),
        *(("1.5x10^3", 1500), ("1.5 * 10**3", 1500), ("1,5 · 10⁻³", 0.0015)),
        *(("-1.5 × 10^(3)", -1500), ("2 x 10<sup>5</sup>", 2e5)),
        *(("10^6", 10**6), ("10⁶", 10**6), ("10 ^ 6", 10**6), (r"10^{-6}", 1e-6), ("2^10", 1024), ("-2^2", -4), ("0^-1", None)),
        *(("9999^9999", None), ("99^300", None), ("3^x", None), ("2^1.5", None), ("10^99999", None)),
        # signs of web pages
        *(("1&nbsp;234", 1234), ("&minus;5", -5), ("&frac12;", HALF), ("4️⃣2️⃣", 42)),
        # percent
        *(("20%", 20), ("12,5 %", 12.5), (r"20\%", 20)),
        *(("20 percent", 20), ("20 per cent off", 20), ("٢٠٪", 20), ("百分之20", 20)),
        # other digits
        *(("٤٢", 42), ("४२", 42), ("４２", 42), ("１，２３４．５", 1234.5), ("٣٫٥", 3.5), ("۱۲۳", 123), ("－５", -5)),
        # words for powers of ten
        *(("3 million", 3 * 10**6), ("$3.5 million", 3.5e6), ("2 thousand", 2000), ("5 Mrd. €", 5 * 10**9), ("3万", 30000)),
        *(("5 lakh", 500000), ("$5k", 5000), ("5k", 5000), ("$5M", 5 * 10**6), ("$1.2bn", 1.2e9), ("300 K", 300), ("5 m", 5)),
        *(("5M", None), ("300K", None), ("3万5千", None), ("3 million 500 thousand", None)),
        # units, and what else is only part of a number
        *(("42 cm^2", 42), ("42 m²", 42), ("42 m/s^2", 42)),
        *(("9.8 m s^-2", 9.8), ("42 cm2", 42), ("42 units**3", 42), ("42 in.^2", 42)),
        *((r"42 \text{ m}^{3}", 42), ("5×10^3 m^2", 5000)),
        *(("42 cm<sup>2</sup>", 42), ("5 km/h", 5), ("42°", 42), (r"42^\circ", 42)),
        *(("x_1 = 3 and x_2 = 5", 5), ("42 [1]", 42), ("42 apples.[2]", 42)),
        *(("42 [^1]", 42), ("[42]", 42), ("42 on the 5th day", 42)),
        *(("42 (see step 3)", 42), ("42 (Eq. 3)", 42), ("42 (page 3)", 42)),
        *(("He is on page 42", 42), ("It is 42 to the nearest 10", 42)),
        *(("3.14 rounded to 2 decimal places", 3.14), ("3.14 (3 s.f.)", 3.14), ("He is 5th.", 5), ("She ends in 4th place", 4)),
        # dresses
        *(("**42**", 42), ("*42*", 42), ("`42`", 42), ("__42__", 42)),
        *(("$42$", 42), ("$$42$$", 42), (r"\$42", 42), (r"\(42\)", 42)),
        *((r"\[42\]", 42), (r"42\text{ cm}", 42), ("42!", 42), ("<b>42</b>", 42), ("42<|im_end|>", 42), ("- 42 apples", 42)),
    ],
)  # fmt: skip
def test_every_way_to_write_a_number(text: str, wanted: Number | None) -> None:
    found = number(text)
    assert near(found, wanted), found


@pytest.mark.parametrize(
    "text",
    [
        *("", "-", ".", "%", "no number", "forty-two", "infinity", "NaN", "∞", r"\infty", "²"),
        *("abc123", "CO2", "x1", "IPv6", "GPT-4", "COVID-19", "0xFF", "deadbe3e7e1f", "3f2a9b", "1e5e3", "v1.2.3", "1h30m"),
        *("3:45", "12:30:45", "3:2", "2024-05-01", "2024/05/01", "01.05.2024", "2024年5月1日", "1.2.3", "192.168.1.1"),
        *("555-1234", "(555) 123-4567", "+49 170 1234567"),
        *("5 hours and 30 minutes", "5 ft 10 in", "5'10\"", "5€50", "5 dollars and 50 cents"),
        *("2x", "y = x^2", "5 + 3", "2 * 3", "10 minus 5", r"2\sqrt{3}", "√16", "10π", "f(5)", "3 + 4i", "(3, 4)", "5(x + 1)"),
    ],
)  # fmt: skip
def test_what_is_no_number(text: str) -> None:
    assert number(text) is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        # a box
        *((r"\boxed{42} and 3", 42), (r"\boxed{x = 5}", 5)),
        *((r"\boxed{3 + 4 = 7}", 7), (r"\boxed{7 = 3 + 4}", 7), (r"\boxed{$42$}", 42)),
        *((r"\boxed{12\%}", 12), (r"\boxed{\$12.50}", 12.5), (r"\boxed{-\frac{1}{2}}", -HALF), (r"\boxed{42\text{ cm}^2}", 42)),
        *((r"\boxed{\mathbf{42}}", 42), (r"\boxed{- 5}", -5)),
        *((r"\boxed{1.5 \text{ million}}", 1.5e6), (r"\boxed{90^\circ}", 90)),
        *((r"\boxed{1, 2}", None), (r"\boxed{5 \text{ or } 6}", None), (r"\boxed{5x}", None), (r"\boxed{x > 5}", None)),
        *((r"\boxed{5!}", None), (r"\boxed{|-5|}", None)),
        *((r"\boxed{3 - 2}", None), (r"\boxed{101_2}", None), (r"\boxed{10\pi}", None)),
        *((r"\boxed{\frac{3}{4} \text{ or } 0.75}", QUARTERS), (r"\boxed{0.\overline{3}}", None), (r"\boxed{\{1,2\}}", None)),
        *((r"\boxed{\text{Paris}} 42", None), (r"\boxed{42", None)),
        *((r"\boxed{\frac{3}{4} = 0.75}", 0.75), (r"\boxed{a = 3, b = 4}", None), (r"Use \boxed{}. The answer is 42", 42)),
        # hashes
        *(("6 * 7\n#### 42", 42), ("#### 42\n#### Why\n3 steps", 42), ("#### $1,234", 1234), ("#### -5 degrees in 3 days", -5)),
        *(("#### 1. Compute\nIt is 42", 42), ("#### Step 1\nIt is 42", 42), (r"#### 42. \boxed{7}", 7)),
        ("#### 3. Compute\nIt is 42", 42),
        # "the answer is"
        ("The answer is 42 (see step 3)", 42),
        *(("The answer is **42**. It took 3 steps.", 42), ("The answer is $42$, in 3 days", 42)),
        *(("**Answer:** 6", 6), ("Answer: 5? no. Answer: 6", 6)),
        *(("Answer: 72. (24 + 48 in 2 steps)", 72), ("Answer = 42 # 3", 42)),
        ("## Answer\n\n42 apples\n\nin 3 days", 42),
        *(("Final answer → 42 in 3 days", 42), ('{"answer": "1,234", "n": 3}', 1234)),
        ("<answer>42</answer> in 3 steps", 42),
        *(("The answer to question 3 is 42, in 5 steps", 42), ("Answer (in $): 42. 3 steps", 42)),
        ("The answer is:\n\n$$\n42\n$$\nafter 3 days", 42),
        *(("The answer is x = 5 of 7", 5), ("The answer is about $42 a day for 3", 42)),
        *(("La respuesta es 42, de 3 pasos", 42), ("La réponse est 42 (étape 3)", 42)),
        ("Die Antwort lautet: 12,5 (Schritt 3)", 12.5),
        *(("Risposta: 42 (passo 3)", 42), ("Resposta final: 42 (3)", 42), ("Ответ: 42 (шаг 3)", 42), ("答案是42，共3步", 42)),
        *(("答：42（3步）", 42), ("정답은 42입니다 (3단계)", 42), ("答えは42です。手順3", 42), ("الإجابة: ٤٢ (3)", 42)),
        ("The answer is 3/4 or 0.75", QUARTERS),
        # a sum, and what is not said clearly
        *(("The answer is 3 + 4 = 7.", 7), ("The answer is 12/4 = 3", 3)),
        *(("The answer is 20% of 50 = 10", 10), ("Answer: 3x4=12", 12)),
        *(("The answer is 3 + 4", None), ("The answer is 3 or 4", None)),
        *(("The answers are 1, 2 and 3", None), ("The answer is 3-5", None)),
        *(("The answer is not 42 but 43", 43), ("The answer is that she has 7", 7), ("The answer is 42, not 43", 42)),
        # a heading, with the way to the answer behind it
        ("Answer: She has 3 apples and buys 4, so 7.", 7),
        *(("Answer: 3 + 4\nThat is 7", 7), ("She has 10 answers\n4. Then 6 more", 6)),
        *(("Answer: 3 + 4 = 7\nThen 7 * 2 = 14", 14), ("Answer:\n1. Add\n2. It is 7", 7)),
        *(("Answer: 16 eggs per day are laid.\nShe sells 9.", 9), ("Answer: 42\nConfidence: 95%", 42)),
        # what a model asks itself next
        *(("#### 42\n\nQuestion: A farmer has 7 cows", 42), ("42\n\nQuestion: A farmer has 7 cows", 42)),
        *(("So it is 42.\n\nQ: A farmer has 7 cows", 42), ("The answer is 42.\n\n**Problem 2:** 7 cows. The answer is 8.", 42)),
        *(("Question: 7 cows?\nThe answer is 42", 42), ("42<|im_end|>\n7 cows", 42)),
        # a check of the result
        *(("It takes 35 hours.\n\n**Verification:**\n- 35 / 7 = 5 ✓", 35), ("So y = 6.\n\n### Check\n\n2·6 + 3 = 15 ✓", 6)),
        *(("So y = 6. Let's check: 2(6) + 3 = 15.", 6), ("y = 6\n\nTo verify, 2·6 + 3 = 15. It is right.", 6)),
        *(("So y = 6. We can verify that 2·6 + 3 = 15.", 6), ("Also ist y = 6.\n\nProbe: 2·6 + 3 = 15", 6)),
        *(("所以y=6。验证：2×6+3=15，正确。", 6), ("Donc y = 6.\n\n**Vérification :** 2 × 6 + 3 = 15", 6)),
        ("So y = 5.\n\nLet me check: 2·5 + 3 = 13, not 15.\n\nThen y = 6.", 6),
        ("So y = 5. Check: 2·5 + 3 = 13. So y = 6", 6),
        *(("Check: 2 + 3 = 5", 5), ("- Cash: $20\n- Check: $50\n- Total: $70", 70), ("Checking pays 2 %, so 40", 40)),
        # alone on the first line
        *(("42\n\nExplanation: 6 times 7", 42), ("**$42**\nBecause 6 × 7", 42), ("12\n30\n42", 42), ("42\nHe has 6 + 7", 42)),
        # a sentence of its own, and then explained
        *(("27. He had 12 and bought 15 more.", 27), ("$18. She sells 9 eggs at $2 each.", 18), ("60%. It is 30 of 50.", 60)),
        *(("27 km. He walked 12 and rode 15.", 27), ("**27.** He had 12 and 15.\n\nThat is it.", 27), ("27。他有12个", 27)),
        *(("7.5. It is half of 15.", 7.5), ("1/2. There are 3 even numbers among 6.", HALF), ("42! There are 6 rows.", 42)),
        *(("12 pens. He buys 15 more. In total 27.", 27), ("3. So 27", 27), ("2. Then 12 + 15 = 27", 27), ("12. 15. 27.", 27)),
        *(("1. It has 3 sides", 3), ("2. Take 5 from 12: 7\n3. Double 7: 14", 14), ("12 are red. The other 15 not", 15)),
        # the last number
        *(("3 apples and 4 pears make 7", 7), ("it is 3 or 4", 4), ("10 - 3", 3), ("3-5", 5), ("$3–$5", 5), ("20%-30%", 30)),
        ("He has 42 out of 100", 42),
        *(("Total = 42 in 3 days", 42), ("x = 5, so he has 3 left", 3), ("48/2 = <<48/2=24>>24 clips", 24), ("5 x 3 = 15", 15)),
        # in bold, and what is only said of a result
        *(("So she makes **$18** by selling 9 eggs at $2 each.", 18), ("So **45** pens are left of the 60.", 45)),
        *(("The total is **12 - 4 = 8** of 12 pens.", 8), ("He buys **3** apples and **4** pears, 7 in all", 7)),
        *(("The **3 boxes** hold 27 pens", 27), ("In **2 hours** she drives 120 km", 120), ("**3 boxes** hold 27", 27)),
        *(("There are **6** tins, which he sells for **$21**.", 21), ("There are **6 tins** for **4 cats**", 6)),
        *(("By **3 pm** it holds **40 l**", 40), ("He reads **8 books** in **4 weeks**.", 8)),
        ("**21**\n\n- 3 rows\n- 7 seats", 21),
        *(("It was then **$20** but is $15", 15), ("- day **1:** 12", 12)),
        *(("She has 45 left after giving away 15.", 45), ("After giving away 15, she has 45.", 45)),
        *(("He has 45 of the 60 pens.", 45), ("It is not 42", None)),
        *(("The sum is 42, which is greater than 40", 42), ("5 more than 12 is 17", 17), ("Out of the 60, 45 are left", 45)),
        *(("She owes $36 because each of her 3 tickets was $12.", 36), ("It took 40 min since he had 2 flat tyres", 40)),
        *(("36, given that the 4 sides are 9 long", 36), ("Es sind 36, weil es 4 Seiten zu je 9 sind.", 36)),
        *(("The remainder is 2 when 30 is divided by 7.", 2), ("The value is 11 if x = 4", 11), ("It is 11, where x is 4", 11)),
        *(("Tom is 9, and since he is 3 younger, she is 12", 12), ("She paid $30 because 3 * 12 = 36", 36)),
        *(("Because she had 12 and lost 3, she has 9.", 9), ("It was 5 since 2 were lost, so 3 are left", 3)),
        *(("The remainder when 30 is divided by 7 is 2", 2), ("He had 12 when he began and 15 in the end", 15)),
        *(("He pays $64 for 16 glasses.", 64), ("He buys 16 for $64", 64), ("16 for 3", 3)),
        ("a profit of $125, compared to $96", 125),
        *(("The town's population was 8,150 in 2004.", 8150), ("The pressure is about 101 kPa at 20 °C.", 101)),
        *(("In 2004 the population was 8,150.", 8150), ("Its rent is **$900** per month for 2 rooms", 900)),
        *(("So there are 7 x 4 = 28 pens for each of the 9 boys", 28), ("That is 90 / 6 = 15 more than a team of 12", 15)),
        *(("He has 3 + 4 = 7 pens and 12 pencils", 12), ("6 / 12 = 0.5 h which is 30 min", 30), ("6 = 2 x 3, then 8", 8)),
        *(("It takes 90 / 6 = 15 minutes for her to fill 30 cups", 15), ("It is 5 to 10", 10)),
        *(("He earns $96 in 8 hours.", 96), ("So she reads 45 pages per day for 6 days.", 45), ("It has 9 men on 2 rigs", 9)),
        *(("It will take 14 days for 6 men to build it.", 14), ("She needs 7 more points to reach 90.", 7)),
        *(("She pays a total of $45 for 5 tickets at $9 each.", 45), ("There are 120 ways to seat 5 people.", 120)),
        *(("She reads the 4 books in 28 days.", 28), ("She puts 9 oranges in 3 bags", 9), ("Ranger 7 landed in 1964.", 1964)),
        *(("He lost 9 and in 2 games won 5", 5), ("He buys 9 pens for $6", 6), ("He lost 9 and in 2 games", 2)),
        *(("The score was 3 to 2.", 2), ("He is 9 and was 7", 7)),
        *(("The film lasts 135 minutes (2 hours and 15 minutes).", 135), ("She is 66 inches tall (5 ft 6 in)", 66)),
        *(("It takes 135 min (2:15 h).", 135), ("It is 3:15 (195 minutes)", None)),
        *(("It weighs 5 kg (about 11 lb).", 5), ("3 buses (about 2.5)", None), ("The chance is 1/4 (25%)", Fraction(1, 4))),
        *(("The chance is 3/8, or 37.5%", Fraction(3, 8)), ("It is 3/4, i.e. 0.75", QUARTERS), ("It is 2 or 0.02", 0.02)),
        # a year or another remark in brackets
        *(("330 million (2020)", 330 * 10**6), ("The population is 8,150 (2004).", 8150), ("$1.2 billion (est. 2019)", 1.2e9)),
        *(("8849 m (2020)", 8849), ("It was 5 (2019), now it is 7 (2021).", 7), ("42 (in 3 days)", 42), ("7 (of 12)", 7)),
        *(("8,150 (as of 2004)", 8150), ("It ended six years later (1945).", 1945), ("twelve years (2012)", 2012)),
        *(("It lasted from 1939 and six years (1945)", 1945), ("5 years later (1998)", 1998), ("150 dozen (1800)", 1800)),
        *(("Apollo 11 landed (1969).", 1969), ("In 2 days (1998)", 1998), ("Windows 7 (2009)", None), ("60 (5 boxes)", None)),
        # so many of so many
        *(("7 von 12 Äpfeln", 7), ("Es sind 7 von insgesamt 12.", 7), ("Il y a 7 élèves sur 12.", 7), ("7 de cada 12", 7)),
        *(("7 su 12", 7), ("7 из 12", 7), ("7 van de 12", 7), ("7 em 12", 7), ("7 out of a total of 12", 7)),
        *(("von 3 bis 12", 12), ("Fue el 5 de mayo de 1810", 1810), ("20 % von 50 sind 10", 10), ("7 von 12 = 0,5", 0.5)),
        # what a refusal mentions
        *(("I cannot solve the 3 equations.", None), ("I'm sorry, but I’m unable to see the 3 bars, or the 4 rows", None)),
        *(("Sorry, I can't add 12 and 15.", None), ("Unfortunately we don't know if 3 are left", None)),
        *(("It cannot be determined from the 2 equations.", None), ("There is not enough information about the 5 boys", None)),
        *(("Ich kann die 3 Gleichungen nicht lösen.", None), ("No puedo sumar 3 y 5", None), ("我无法解这3个方程。", None)),
        *(("I could not do it in my head. x = 5", 5), ("I won't say 41, it is 42", 42)),
        *(("I don't know for sure but think 42", 42), ("I cannot find more than 5", 5), ("I couldn't find 2, only 1", 1)),
        *(("I could not find more apart from the fact that it has 128 parts.", 128), ("I know none except 5", 5)),
        *(("It is impossible to say which of the 4 is meant.", None), ("The sum of the 3 cannot be determined.", None)),
        *(("We cannot divide 7 by 2, so 3 are left", 3), ("She cannot buy 5 pens", 5), ("I can't see it. (b) It is 5", 5)),
        # a tool call that is written as text
        *(('<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>', None), ("<function=add>{1, 2}", None)),
        *(('[TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}]', None), ("<tool_call>\n{5, 6", None)),
        *(("<tool_call>{1}</tool_call>\nThe sum is 27", 27), ("A `<tool_call>` with 5", 5), ('{"sum": 27}', 27)),
        # denied, deleted, compared, or not at its end
        *(("It is 42, not 41.", 42), ("The answer isn't a 42.", None), ("It was not 41. It is 42", 42)),
        *(("~~41~~ 42", 42), ("x > 5", None), ("The answer is x >= 5", None), ("5 > 3, so the answer is 5", 5)),
        *(("a -> b -> 5", 5), ("12 × 4 = 48, then 48 +", None), ("5+", 5), ("6 times 7", None), ("6 times 7 is 42", 42)),
        *(("8 (5 + 3)", 8), ("It is 72 (24 + 48 in 2 steps).", 72)),
        *(("8 (5 + 3 = 8)", 8), ("twelve (12)", 12), ("3 dozen (36)", 36)),
        *(("1 + 5 = 6th", 6), ("2 + 10 - 3", None), ("10 - 3 = y", None), (r"3 of them are \frac{x}{4}", None)),
        *(("7 = 3 + 4", 7), ("It costs 60 (5 boxes)", None), ("The total is 5 + 3", None), ("1/3 (0.333)", None)),
        *(("1. Add\n2. Subtract\n3. So 42", 42), ("It is 42.\n1. Add\n2. Subtract", 42), ("42. Because six times seven.", 42)),
        *(("Step 1: 40\nStep 2: 42\nStep 3: done.", 42), ("1. The Moon", 1), ("1. Add\n2. Subtract", None)),
        *((r"\sqrt{16} = 4", 4), ("f(3) = 9", 9), (r"$x \equiv 5 \pmod{7}$", 5), (r"x = 42 \tag{1}", 42), ("10 - 3 = 7", 7)),
    ],
)  # fmt: skip
def test_the_number_that_is_meant(text: str, wanted: Number | None) -> None:
    found = number(text)
    assert near(found, wanted), found


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("3 + 4 = 7, see step 9 (x^2)", 3, None),
        ("1,2,3", 1, 3),
        (r"5 m^2 or \boxed{6} or 7 [1]", 5, 7),
        ("The answer is 42, or 43", 42, 43),
        ("3:45 or 5 or 1.2.3", None, None),
        ("1st, 2 and 3rd", 2, 2),
        ("none", None, None),
        ("-5", -5, -5),
    ],
)
def test_the_first_and_the_last_number_whatever_is_stated(text: str, first: int | None, last: int | None) -> None:
    assert number(text, which="first") == first
    assert number(text, which="last") == last


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        *(("20%", 0.2), (r"\boxed{12.5\%}", 0.125), ("20 Prozent", 0.2), ("5‰", 0.005), ("½%", 0.005), ("-150 %", -1.5)),
        *(("0.2", 0.2), ("20", 20), ("20% of 50 = 10", 10), ("2 million percent", 2 * 10**6)),
    ],
)  # fmt: skip
def test_percent_as_a_share(text: str, wanted: Number) -> None:
    assert near(number(text, percent="share"), wanted)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("42", int),
        ("4,200", int),
        ("10^6", int),
        ("1.5 million", float),
        ("3/4", Fraction),
        ("6/2", int),
        ("0.5", float),
        ("20%", int),
    ],
)
def test_whole_numbers_and_fractions_are_exact(text: str, kind: type) -> None:
    assert type(number(text)) is kind


@pytest.mark.skipif(not TABLE.is_file(), reason="the table of decided values is not at hand")
def test_the_decided_values() -> None:
    rows = [row for row in json.loads(TABLE.read_text(encoding="utf-8"))["rows"] if row["step"] == "number"]
    assert len(rows) > 10
    assert [row for row in rows if not near(number(row["text"]), row["expected"])] == []


# Whatever way a number is written in, in whatever sentence, it is read

SENTENCES = [
    *("{}", "It is {}.", "It is {}, I think.", "3 times 4 gives {}", "**{}**", "`{}`", "Total = {}", "so {} apples"),
    *(
        "#### {}",
        "The answer is {} (see step 3).",
        "Answer: {}\n\nThis took 7 steps.",
        "答案是{}。",
        "{}\n\nBecause 6 times 7.",
    ),
    *("2 + 2 = 4.\nSo it is {}", "1. First\n2. Then {}", "The answer is {}.\n\nQuestion: What is 9?", "Respuesta: {} (paso 3)"),
]
BOXES = [r"\boxed{{{}}}", r"So $\boxed{{{}}}$ in 3 steps.", r"\boxed{{x = {}}}", r"\boxed{{{}\text{{ cm}}^2}}"]
GAPS = [",", "\u202f", "\u00a0", "\u2009", "'", "’", "_", " ", "{,}", r"\,", r",\!"]
MINUSES = ["-", "−", "–", "－"]
MONEY = [
    "{sign}${size}",
    "${sign}{size}",
    "{sign}€{size}",
    "{sign}{size} €",
    "{sign}US${size}",
    r"{sign}\${size}",
    "{sign}{size}",
]


def grouped(digits: str, gap: str) -> str:
    head = len(digits) % 3 or 3
    return gap.join([digits[:head], *(digits[at : at + 3] for at in range(head, len(digits), 3))])


def indian(digits: str) -> str:
    head, tail = digits[:-3], digits[-3:]
    odd = len(head) % 2
    groups = [head[:odd], *(head[at : at + 2] for at in range(odd, len(head), 2)), tail]
    return ",".join(filter(None, groups))


@st.composite
def written_numbers(draw: Any) -> tuple[Number, str]:
    """Draw a number and one way to write it."""
    size, is_negative = draw(st.integers(0, 10**12)), draw(st.booleans())
    digits = str(size)
    cents = draw(st.sampled_from(["", "5", "25", "0625"]))
    way = draw(st.sampled_from(["plain", "grouped", "european", "indian", "comma", "fraction", "mixed", "power", "wide"]))
    value: Number = float(f"{digits}.{cents}") if cents else size
    if way == "grouped":
        text = grouped(digits, draw(st.sampled_from(GAPS))) + (f".{cents}" if cents else "")
    elif way == "european":
        text, value = grouped(digits, ".") + ",50", size + 0.5
    elif way == "indian":
        text = indian(digits) + (f".{cents}" if cents else "")
    elif way == "comma" and cents:
        text = f"{digits},{cents}"
    elif way == "fraction":
        under = draw(st.integers(1, 99))
        text = draw(st.sampled_from(["{}/{}", r"\frac{{{}}}{{{}}}", r"\dfrac{{{}}}{{{}}}", "{} / {}"])).format(size, under)
        value = Fraction(size, under)
    elif way == "mixed":
        text = digits + draw(st.sampled_from([" 1/2", "½", " ½", r"\frac{1}{2}", r"\frac12", "\u202f1/2"]))
        value = size + HALF
    elif way == "power":
        exponent = draw(st.integers(-9, 9))
        text = draw(st.sampled_from(["{}e{}", "{} × 10^{}", r"{}\times 10^{{{}}}", "{} · 10^({})", "{}*10**{}"])).format(
            size, exponent
        )
        value = size * Fraction(10) ** exponent
    else:
        text = digits + (f".{cents}" if cents else "")
        text = text.translate(str.maketrans("0123456789.", "０１２３４５６７８９．")) if way == "wide" else text
    sign = draw(st.sampled_from(MINUSES)) if is_negative else ""
    money = "{sign}{size}" if way in {"fraction", "mixed", "power"} else draw(st.sampled_from(MONEY))
    return -value if is_negative else value, money.format(sign=sign, size=text)


@settings(max_examples=60)
@given(written_numbers(), st.sampled_from(SENTENCES + BOXES))
def test_a_number_is_read_in_every_dress_and_sentence(written: tuple[Number, str], sentence: str) -> None:
    wanted, text = written
    if "€" in text and "." in text and "," not in text:  # thousands or a fraction: nobody can tell
        return
    found = number(sentence.format(text))
    assert near(found, wanted), (sentence.format(text), found)


@given(st.text("0123456789eE.,+-−% ٣²x_^/$½{}\\()=:~*# \n", max_size=14))
def test_no_text_is_too_odd_to_look_for_a_number(text: str) -> None:
    for which in ("meant", "first", "last"):
        found = number(text, which=which)
        assert found is None or isinstance(found, int | float | Fraction)


#: Each as often as makes the test take minutes where the time grows with the square of the text.
LONG = {
    60_000: [
        "1",
        "1,",
        "1,111",
        ".",
        "-",
        "1e-",
        "1/",
        "1:",
        "²",
        "{,}",
        "^",
        "\\boxed{",
        "\\",
        "**",
        "<sup>",
        "$-",
        "\n",
        " ",
        "5a",
        "a ",
    ],
    30_000: [
        "\nCheck: ",
        "check\n ",
        "is 5 a ",
        "5 since ",
        "answer ",
        "answer:",
        "answer is 5 ",
        "####\n",
        "\\sqrt[",
        "\\frac{",
        "\\text{",
        "5 million ",
        "I cannot ",
        ", ich kann ",
        "5 (a ",
        "5. A ",
        "\nQ:",
        "7. a\n",
        "(",
    ],
    5_000: ["(5 + 3) ", "1. a\n", "step 3 ", "½"],
}


@pytest.mark.long
@pytest.mark.parametrize(("piece", "many"), [(piece, many) for many, pieces in LONG.items() for piece in pieces])
def test_a_long_text_is_read_in_a_time_that_grows_with_it(piece: str, many: int) -> None:
    began = time.thread_time()
    number(piece * many)
    assert time.thread_time() - began < 3
