"""The meaning of words next to a choice, in the languages that models answer in: each word has a code of one letter.

So the words before or after a choice become a short text of codes, and patterns over the codes tell their meaning. Any other
word, the content of a sentence, is `x`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache

from runner.reading.texts import composed, in_form

__all__ = ["UNSPACED", "WORDS", "codes", "plain"]

#: Han, kana, Hangul, and the scripts of South-East Asia: words, or their endings, are written without a space.
UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\u1100-\u11ff\uac00-\ud7af\u0e00-\u0e7f\u1000-\u109f\u1780-\u17ff"

#: If a word is in two rows, the first row counts.
_ROWS: Mapping[str, str] = {
    # A names the choice
    "A": """
        answer answers solution ans antwort antworten lösung réponse réponses reponse respuesta respuestas solución resposta
        respostas gabarito risposta risposte soluzione antwoord svar svaret vastaus odpowiedź odpowiedzi odpowiedzią odpověď
        odpoveď válasz răspuns răspunsul raspuns απάντηση cevap cevabı cevabım yanıt yanıtı ответ ответы ответом відповідь
        отговор одговор jawaban jawabannya jawapan đáp trả sagot jibu الإجابة الاجابة إجابة والإجابة إجابتي الجواب جواب الحل
        پاسخ תשובה התשובה उत्तर जवाब উত্তর பதில் సమాధానం idahun ìdáhùn 答案 答复 回答 正解 答え 解答 答 정답 답변 답 คำตอบ ตอบ
    """,
    # R praises, W blames
    "R": """
        correct right best better true accurate appropriate suitable valid correctly ✓ ✔ ✅ ☑ richtig richtige richtigen
        korrekt korrekte korrekten wahr zutreffend correcte correctes bonne bonnes juste exacte vraie vrai correcta correctas
        correcto cierta verdadera verdadero correta corretas correto certa certo corretta corrette corretto giusta giuste
        esatta esatto juist juiste rätt rätta korrekta riktig riktige rigtig rigtige oikea poprawna poprawne prawidłowa
        prawidłową poprawną správná správně helyes corect corectă σωστή doğru правильный правильная правильно правильные
        верный верная верно верны верен правильна вірна правилен правильным верным benar betul đúng tamang sahihi الصحيحة
        صحيحة الصحيح صحيح درست הנכונה נכונה सही সঠিক சரியான సరైన 正确 正確 对的 對的 符合题意 正しい 正しく 都对 都對 맞 옳
        ถูก
    """,
    "W": """
        wrong incorrect false fail fails failed invalid impossible unlikely implausible inaccurate irrelevant untrue excluded
        rejected dismissed discarded incorrectly inappropriate unsuitable ❌ ✗ ✘ ✖ ❎ falsch falsche falschen inkorrekt
        unzutreffend scheidet scheiden ausgeschlossen fausse fausses faux incorrecte incorrectes erronée erronées éliminée
        éliminées exclue incorrecta incorrectas incorrecto falsa falsas falso errónea erróneas descartada descartadas
        incorreta incorretas errada erradas errado errata errate sbagliata sbagliate scorretta scorrette onjuist onjuiste fout
        felaktig błędna błędne niepoprawna nieprawidłowa nesprávná helytelen greșită λάθος yanlış неверно неверен неверный
        неверная неверны неправильно неправильный неправильная неправильны неправильным неверным ошибочен ошибочный ложно
        неправильна невірна salah sai خاطئة خاطئ خطأ غلط שגויה गलत ভুল 错误 錯誤 错 錯 不正确 不正確 不对 不對 不符合 有误
        有誤 被排除 間違 誤り 不正解 不適切 正しくな ではなく ではない じゃない 틀리 틀렸 오답 아닙 아니 맞지 옳지 제외 ผิด
    """,
    # C chooses or concludes
    "C": """
        choose chose choosing pick picked picking select selected selecting go going went stick sticking opt opting think
        believe guess say conclude prefer leaning lean vote bet settle rather but so finally ultimately therefore thus hence
        consequently conclusion final wähle nehme entscheide glaube denke daher somit folglich sondern tippe choisis
        choisirais opte donc ainsi pense crois dirais elijo escojo elegiría creo diría diria selecciono sino entonces escolho
        escolheria portanto acho scelgo quindi dunque credo penso direi kies dus väljer alltså wybieram więc zatem vybírám
        tedy választom tehát aleg deci seçiyorum seçerim bence выбираю выберу значит итак следовательно поэтому думаю считаю
        обираю memilih jadi chọn vậy أختار اختار لذلك إذن בוחר בוחרת לכן इसलिए 选 選 故 因此 所以 而是 選択 選び 選ぶ よって
        したがって 선택 고르 고를 따라서 그러므로 เลือก ดังนั้น
    """,
    # N denies a statement; n does so only right before a choice or a link, because in English it is also an answer
    "N": """
        not never neither nor none nicht kein keine weder noch pas ni não nem non né niet geen inte ikke nie ani není nici δεν
        όχι değil не ни ні bukan không ليس ليست ولا לא नहीं 不是 不选 不選 并非 非 ไม่ใช่ ไม่
    """,
    "n": "no",
    # E rejects the choice that follows
    "E": """
        than over unlike excluding exclude excludes eliminate eliminates eliminated eliminating reject rejecting
        discard discarding dismiss dismissing rule rules ruled ruling cross crossed crossing instead opposed compared
        comparing versus vs without against besides so_is so_are so_does statt anstatt anstelle schließe schließen
        ausschließen gegenüber plutôt lieu élimine éliminer éliminons exclure contrairement lugar vez descarto descartar
        descartamos sem invece piuttosto escludo escludere escludiamo исключаем исключить исключаю вместо 而不是 而非 排除
    """,
    # X does the same, but singles the choice out if all others are wrong
    "X": """
        except excepting all_but außer sauf excepto exceto tranne кроме kecuali باستثناء 除了 除外
    """,
    # both: the choice is rejected, or the statement is doubted
    "DE": "although though despite obwohl aunque embora sebbene хотя 虽然 雖然 尽管",
    # B gives a reason or a contrast: "because"
    "B": """
        because since as while whereas whilst weil da denn während wohingegen parce puisque tandis porque ya puesto mientras
        pois já enquanto perché poiché mentre siccome omdat terwijl eftersom ponieważ gdyż protože mivel deoarece çünkü потому
        поскольку оскільки karena sedangkan vì لأن بينما כי क्योंकि 因为 因為 由于 由於 而 なぜなら 왜냐하면 เพราะ
    """,
    # D supposes or doubts
    "D": """
        many some people others students they if whether suppose assuming assume might could may seem seems seemed appear
        appears looks thought initially originally glance possible possibly falls ob könnte si scheint pourrait semble podría
        parece poderia potrebbe sembra если может кажется jika mungkin nếu إذا لو 如果 假设 可能 似乎 かもしれ 만약
    """,
    # = and : link a choice to a statement about it, as a word and as a sign
    "=": """
        fits match matches matching corresponds corresponding is are was were be been ist sind wäre lautet est sont serait
        c'est n'est es está están estão son sería sea é são seria è sono sarebbe zijn är jest este είναι это является являются
        adalah ialah là هي هو است היא הוא है हैं 是 为 為 即 は が 은 는 이 가 คือ
    """,
    ":": ": = → ⇒ - – —",
    # v opens a clause whose subject is the choice before it
    "v": """
        would should must will can do does did has have had works makes würde werde muss kann passt stimmt trifft gilt doit
        debe deve
    """,
    # & and | join two choices: both, or one of them, may be meant
    "&": "and & + / und et y e en och og и та és și ve và و ו और 和 与 與 及 と や 와 과 그리고 และ",
    "|": """
        or oder ou o u eller lub albo nebo vagy sau veya или або atau hoặc أو או या 或 或者 还是 または もしくは か 또는 หรือ
    """,
    ",": ", 、 ،",
    "(": "(",
    ")": ")",
    # . and ? end a sentence
    ".": ". ! ; 。 । ؛",
    "?": "? ؟",
    # o calls a choice a choice
    "o": """
        option options choice choices alternative letter letters candidate antwortmöglichkeit buchstabe buchstaben lettre
        choix proposition opción opciones letra literal alternativa opção opções opzione opzioni lettera optie alternativet
        opcja opcję litera možnost varianta opțiunea opció seçenek seçeneği şık şıkkı вариант варианта варианты буква варіант
        pilihan opsi huruf phương lựa الخيار خيار الحرف گزینه אפשרות विकल्प বিকল্প 选项 選項 项 項 選択肢 番 선택지 보기 번
        ข้อ ตัวเลือก
    """,
    # l changes nothing
    "l": """
        the a an it its that this these those i i'd i'll we my our your you one ones only both either all of to most more
        likely probably clearly definitely certainly obviously also really simply just indeed actually number being me here on
        out too for sure by given in with toward towards der die das den dem ein eine ich mit für wohl sicher beide hier auch
        le la les un une je être bien que de ce cette deux ne el los las una lo yo mi ser ambas ambos os um uma eu il gli io
        essere het een ik det jag jeg że az bu şu bir я что здесь мой наш оба yang ini saya tôi câu án lời هذا هذه أنا यह हम
        मैं इस का 的 了 我 我认为 我認為 应该 應該 应 應 该 本题 本題 此题 都 也 最 です だ である を の に 私 입니다 이다 를
        을 의 제 도 ที่ เป็น ผม ฉัน
    """,
    # contractions, of two words each
    "A=": "answer's",
    "l=": "it's that's",
    "=N": "isn't aren't wasn't",
    "vN": "can't cannot won't don't doesn't didn't wouldn't shouldn't couldn't",
}


def plain(text: str) -> str:
    """Return a text in Unicode's form NFKC, in which `Ⓑ` is `B`, without invisible marks, and with one kind of apostrophe."""
    if text.isascii():
        return text
    return in_form("NFKC", composed(text)).replace("’", "'")


def _words() -> Mapping[str, str]:
    found = {"\n": "\n"}
    for code, row in _ROWS.items():
        for word in row.split():
            found.setdefault(plain(word).replace("_", " "), code)
    return found


#: The code of each word. Words are in lower case and in Unicode's form NFKC, and so must the text be.
WORDS: Mapping[str, str] = _words()

_ASCII = re.compile(r"(?:so (?:is|are|does)|all but)\b|[a-z0-9][a-z0-9'-]*(?:\.[0-9]+)?|[,.():;?!=\n&/+]|-+(?![a-z0-9])")


#: A remark in parentheses that judges nothing.
_ASIDE = re.compile(r"\([^()RW]*\)|\)")


@cache
def _any_script() -> re.Pattern[str]:
    """Return the pattern for words of any script: in scripts without spaces, known words, else each character by itself."""
    word = f"[^\\W_{UNSPACED}]+(?:'[^\\W_{UNSPACED}]+)*"
    pieces = sorted((known for known in WORDS if re.fullmatch(word, known) is None), key=len, reverse=True)
    firsts = "".join(sorted({re.escape(piece[0]) for piece in pieces}))
    known = "|".join(re.escape(piece) for piece in pieces if piece not in ".-–")
    return re.compile(f"(?=[{firsts}])(?:{known}|\\.(?!\\d)|[-–]+(?!\\w))|{word}|[{UNSPACED}]")


@lru_cache(maxsize=4096)  # answers are much alike
def codes(text: str) -> str:
    """Return a text as the codes of its words."""
    text = text.lower()
    words = _ASCII if text.isascii() else _any_script()
    found = "".join([WORDS.get(word, "x") for word in words.findall(text)])
    return _ASIDE.sub("", found) if ")" in found else found
