import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.passages import split_passages

_DOCUMENTS = {
    "English": "The old man mended watches for forty years. His son did not want to learn it! Who will do it now? I do not know.",
    "Chinese": "昨天傍晚我们沿着河边走了很久。天气很冷，但是大家都很高兴！你也想来吗？我们下个星期再去一次。",
    "Japanese": "昨日の夕方、私たちは川沿いを長い間歩きました。寒かったですが、みんな楽しそうでした！また行きますか？",
    "Korean": "어제 저녁 우리는 강가를 오랫동안 걸었습니다. 날씨는 추웠지만 모두 즐거워했습니다! 또 갈까요?",
    "Hindi": "कल शाम हम नदी के किनारे बहुत देर तक चले। मौसम ठंडा था लेकिन सब खुश थे। क्या आप भी आएंगे? ज़रूर।",
    "Bengali": "কাল সন্ধ্যায় আমরা নদীর ধারে অনেকক্ষণ হেঁটেছি। ঠান্ডা ছিল কিন্তু সবাই খুশি ছিল। তুমি কি আসবে?",
    "Arabic": "مشينا أمس على ضفة النهر طويلا. كان الجو باردا لكن الجميع كانوا سعداء! هل ستأتي معنا؟ نعم بالتأكيد.",
    "Urdu": "کل شام ہم دریا کے کنارے بہت دیر تک چلتے رہے۔ موسم ٹھنڈا تھا لیکن سب خوش تھے۔ کیا آپ بھی آئیں گے؟",
    "Hebrew": "אתמול בערב הלכנו זמן רב לאורך הנהר. היה קר אבל כולם שמחו! האם תבואו גם אתם? בוודאי.",
    "Thai": "เมื่อวานตอนเย็นเราเดินเล่นริมแม่น้ำเป็นเวลานาน อากาศหนาวแต่ทุกคนมีความสุขมาก คุณอยากมาด้วยไหม เราจะไปกันอีก",
    "Lao": "ມື້ວານຕອນແລງພວກເຮົາຍ່າງແຄມແມ່ນ້ຳດົນນານ ອາກາດໜາວແຕ່ທຸກຄົນມີຄວາມສຸກ ເຈົ້າຢາກມານຳບໍ ພວກເຮົາຈະໄປອີກ",
    "Khmer": "ម្សិលមិញពេលល្ងាចយើងដើរតាមមាត់ទន្លេយូរណាស់។ អាកាសធាតុត្រជាក់ប៉ុន្តែគ្រប់គ្នាសប្បាយចិត្ត។ តើអ្នកចង់មកទេ?",
    "Burmese": "မနေ့ညနေက ကျွန်တော်တို့ မြစ်ကမ်းတစ်လျှောက် အကြာကြီး လမ်းလျှောက်ခဲ့သည်။ ရာသီဥတုအေးသော်လည်း အားလုံးပျော်ခဲ့ကြသည်။",
    "Tibetan": "མདང་དགོང་ང་ཚོ་གཙང་པོའི་འགྲམ་དུ་ཡུན་རིང་འགྲོས་བརྒྱབ་པ་ཡིན། གནམ་གཤིས་གྲང་མོ་ཡིན་ཡང་ཚང་མ་དགའ་པོ་བྱུང་།",
    "Amharic": "ትናንት ማታ በወንዙ ዳርቻ ለረጅም ጊዜ ተጓዝን። አየሩ ቀዝቃዛ ነበር ግን ሁሉም ደስተኛ ነበሩ። አንተም ትመጣለህ?",
    "Armenian": "Երեկ երեկոյան մենք երկար քայլեցինք գետի ափով։ Ցուրտ էր, բայց բոլորն ուրախ էին։ Դու էլ կգա՞ս։",
    "code": "def first(rows):\n    for row in rows:\n        return row\n    return None\n\n\ndef last(rows):\n    return rows[-1]\n",
    "Markdown": "# Title\n\n- one thing to do\n- another thing to do\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\n    x = 1\n```\n",
    "one word": "x" * 300,
    "emoji": "👩‍👩‍👧" * 40,
    "lone surrogate": "a \ud800 b. " * 20,
}


def _without_space(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("script", _DOCUMENTS)
@pytest.mark.parametrize(("shortest", "longest"), [(10, 25), (10, 60), (1, 40), (20, 2000)])
def test_a_document_of_any_script_is_covered_by_its_passages(script: str, shortest: int, longest: int) -> None:
    document = _DOCUMENTS[script]
    found = split_passages(document, shortest, longest)
    assert all(shortest <= len(text) <= longest for text in found.texts)
    assert all(text in document for text in found.texts)
    assert _without_space("".join([*found.texts, found.rest])) == _without_space(document)
    assert not found.rest


@pytest.mark.parametrize(
    "script", ["English", "Chinese", "Japanese", "Korean", "Hindi", "Arabic", "Urdu", "Khmer", "Amharic"]
)
def test_passages_end_with_sentences_where_these_fit(script: str) -> None:
    longest = 60 if script in ("English", "Hindi", "Arabic", "Urdu", "Khmer") else 40
    found = split_passages(_DOCUMENTS[script], 5, longest)
    assert len(found.texts) > 1
    assert all(text[-1] in ".!?。！？।۔؟។።" for text in found.texts)


@pytest.mark.parametrize("script", ["Thai", "Lao"])
def test_passages_of_scripts_without_signs_for_sentences_end_with_words(script: str) -> None:
    found = split_passages(_DOCUMENTS[script], 10, 45)
    assert len(found.texts) > 1
    assert all(unicodedata.category(text[0])[0] != "M" for text in found.texts)


def test_line_breaks_and_indentation_are_kept() -> None:
    code = "def f(x):\n    if x:\n        return 1\n    return 2\n"
    assert split_passages(code, 10, 400).texts == [code.rstrip()]
    assert split_passages(code, 10, 30).texts == ["def f(x):\n    if x:", "        return 1\n    return 2"]


def test_lines_within_a_paragraph_do_not_end_a_sentence() -> None:
    wrapped = "The old man mended\nwatches for years. His son\ndid not want to learn it."
    expected = ["The old man mended\nwatches for years.", "His son\ndid not want to learn it."]
    assert split_passages(wrapped, 10, 60).texts == expected
    assert split_passages(wrapped.replace("\n", "\r\n"), 10, 60).texts == [
        text.replace("\n", "\r\n") for text in expected
    ]


def test_passages_end_at_sentences_and_paragraphs() -> None:
    text = "One two three. Four five six. Seven eight nine.\n\nTen eleven twelve thirteen."
    assert split_passages(text, 10, 30).texts == [
        "One two three. Four five six.",
        "Seven eight nine.",
        "Ten eleven twelve thirteen.",
    ]


def test_a_short_paragraph_joins_the_next() -> None:
    assert split_passages("Title\n\nA sentence that is long enough.", 20, 80).texts == [
        "Title\n\nA sentence that is long enough."
    ]


def test_a_sentence_that_does_not_fit_is_cut_between_words() -> None:
    text = "A short one. " + "and then " * 30 + "the end. Another short one."
    found = split_passages(text, 10, 50)
    assert " ".join(found.texts) == text
    assert max(map(len, found.texts)) <= 50


def test_a_document_shorter_than_a_passage_is_reported() -> None:
    assert split_passages("Too short.", 20, 30) == type(found := split_passages("", 1, 30))(texts=[], rest="Too short.")
    assert (found.texts, found.rest) == ([], "")
    assert split_passages("   \n\n ", 1, 5).texts == []


def test_the_end_of_a_document_is_never_too_short_where_the_text_before_can_be_shorter() -> None:
    found = split_passages("One two three four. Five six.", 10, 25)
    assert found.texts == ["One two three four.", "Five six."] or not found.rest
    assert split_passages("abcdefghij klmno", 10, 12) == type(found)(texts=["abcdefghij"], rest="klmno")


@given(
    st.text(st.one_of(st.sampled_from("ab .!?\n\r\t日。ไ👩\u200d\ud800"), st.characters()), max_size=300),
    st.integers(1, 20),
    st.integers(0, 60),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_every_passage_keeps_its_bounds_and_no_character_is_lost(text: str, shortest: int, more: int) -> None:
    found = split_passages(text, shortest, shortest + more)
    assert all(shortest <= len(passage) <= shortest + more for passage in found.texts)
    assert _without_space("".join([*found.texts, found.rest])) == _without_space(text)
    assert len(found.rest) < shortest or more == 0 or not found.rest.isspace()
