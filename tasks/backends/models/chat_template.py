"""Write conversations as token ids by the chat template of a model: prompts, training rows with a loss mask, pairs.

Every stage that gives a conversation to a model uses this module, so a response is trained, scored and sampled in the
same context. A model whose tokenizer has no chat template gets conversations as plain text, see `heirloom/chat.py`.

The loss of a response covers what the model generates: the text after the header of its turn, and the end of the turn.
Where it lies follows from the template's `{% generation %}` marks; from those of TRL's version of the template, which
has them for most public models; or else from the template without marks, by writing the conversation up to each
response and up to its end.

Texts that contain the name of a special token, such as `<|im_end|>`, do not get that token: only the template's own
marks become special tokens.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from heirloom.chat import (
    ASSISTANT_ROLE,
    Conversation,
    Message,
    Tool,
    first_response,
    render_chat,
    render_prompt,
    responses_with_context,
)
from heirloom.errors import HeirloomError, one_line
from tasks.backends.models.tokenization import EncodedPrompt, tokenize_texts
from tasks.backends.settings.sampling import Sampling
from tasks.backends.types import ChatReport, ChatText, Completion, PreferencePair, Prompt, Text

if TYPE_CHECKING:  # importing transformers takes seconds
    from transformers import PreTrainedTokenizerFast

CHATML = """\
{%- if tools %}
    {{- bos_token + 'system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- '# Tools\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson + '\\n' }}
    {%- endfor %}
    {{- eos_token + '\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- bos_token + 'assistant\\n' }}
        {%- generation %}
            {%- if message.reasoning %}
                {{- '<think>\\n' + message.reasoning + '\\n</think>\\n\\n' }}
            {%- endif %}
            {{- message.content }}
            {%- for call in message.tool_calls or [] %}
                {{- ('\\n' if message.content or not loop.first else '') + '<tool_call>\\n' }}
                {{- '{"name": ' + call.function.name | tojson }}
                {{- ', "arguments": ' + call.function.arguments | tojson + '}\\n</tool_call>' }}
            {%- endfor %}
            {{- eos_token }}
        {%- endgeneration %}
        {{- '\\n' }}
    {%- elif not (loop.first and tools and message.role == 'system') %}
        {{- bos_token + message.role + '\\n' + message.content + eos_token + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- bos_token + 'assistant\\n' }}
{%- endif %}
"""
"""Chat template of models trained from scratch: ChatML, whose marks are the tokenizer's begin and end tokens."""

_GENERATION_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")
_REASONING_FIELDS = ("reasoning", "reasoning_content", "thinking")
"""Names that chat templates have for the reasoning of a message."""
_FIRST_MARKER = 0x100000
"""First of the characters that stand for names of special tokens while a template is rendered: private use area B."""

Spans = list[tuple[int, int]]


@dataclass(frozen=True)
class TokenRow:
    """Token ids of a conversation, and for each whether it is part of the loss."""

    ids: list[int]
    mask: list[bool]

    def fit(self, context: int) -> "TokenRow":
        """Return the row cut to a number of tokens.

        First what comes before the loss is cut, after its first token, so that the rest fits or gets half of the
        context; then the end.
        """
        num_before = self.mask.index(True) if any(self.mask) else 0
        room = max(context - (len(self.ids) - num_before), context // 2)
        num_cut = max(0, num_before - room)
        ids, mask = self.ids, self.mask
        if num_cut:
            ids, mask = [*ids[:1], *ids[1 + num_cut :]], [*mask[:1], *mask[1 + num_cut :]]
        return TokenRow(ids[:context], mask[:context])


@dataclass(frozen=True)
class TokenPair:
    """Token ids of a preference pair."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


def encode_texts(tokenizer: "PreTrainedTokenizerFast", texts: Sequence[Text]) -> list[list[TokenRow]]:
    """Return the rows of each text: one of a text, with a begin and an end token, and those of a conversation.

    Raises:
        HeirloomError: the chat template refuses a conversation.
    """
    template = ChatTemplate(tokenizer) if any(isinstance(text, ChatText) for text in texts) else None
    plain = iter(tokenize_texts(tokenizer, [part for text in texts for part in _plain_parts(text)]))
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    rows: list[list[TokenRow]] = []
    refusals: list[str] = []
    for text in texts:
        if isinstance(text, ChatText) and template:
            try:
                rows.append(template.encode(text.conversation, whole=text.whole))
            except HeirloomError as error:
                refusals.append(str(error))
            continue
        prompt, response = next(plain), next(plain)
        # The begin token of a text without a prompt has a loss.
        mask = [isinstance(text, str)] * (len(prompt) + 1) + [True] * (len(response) + 1)
        rows.append([TokenRow([begin, *prompt, *response, tokenizer.eos_token_id], mask)])
    if refusals:
        raise refusal_error(refusals, len(texts))
    return rows


@dataclass(frozen=True)
class EncodedPrompts:
    """Token ids of prompts, and what ends the responses to them."""

    ids: list[list[int]]
    stop_ids: list[int]
    """Special tokens that end a response to messages, besides the tokenizer's end token."""
    has_template: bool
    in_chat: list[bool]
    """Whether each prompt was written by the chat template."""

    def fit(self, max_length: int) -> list[EncodedPrompt]:
        """Cut prompts that leave no room for one new token within `max_length`, and count what was cut.

        A text is cut at its end, and messages after their first token, since their end is the header of the response.
        """
        room = max_length - 1
        fitted = []
        for ids, is_chat in zip(self.ids, self.in_chat, strict=True):
            num_cut = max(0, len(ids) - room)
            cut = [*ids[:1], *ids[1 + num_cut :]] if is_chat else ids[:room]
            fitted.append(EncodedPrompt(cut if num_cut else ids, num_cut))
        return fitted


def encode_prompts(tokenizer: "PreTrainedTokenizerFast", prompts: Sequence[Prompt]) -> EncodedPrompts:
    """Return the token ids of prompts: texts with a begin token, messages as the chat template writes them.

    A tokenizer without a begin token gets its end token, which separates documents there, as in training.

    Raises:
        HeirloomError: the template refuses the messages of a prompt.
    """
    template = ChatTemplate(tokenizer)
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    in_chat = [bool(prompt.conversation) and template.exists for prompt in prompts]
    texts = iter(
        tokenize_texts(tokenizer, [p.text for p, is_chat in zip(prompts, in_chat, strict=True) if not is_chat])
    )
    ids: list[list[int]] = []
    refusals: list[str] = []
    for prompt, is_chat in zip(prompts, in_chat, strict=True):
        if not is_chat or not prompt.conversation:
            ids.append([begin, *next(texts)])
            continue
        try:
            ids.append(template.encode_prompt(prompt.conversation))
        except HeirloomError as error:
            refusals.append(str(error))
    if refusals:
        raise refusal_error(refusals, len(prompts))
    end = template.end_of_turn_id if any(in_chat) else None
    return EncodedPrompts(ids, [] if end is None else [end], template.exists, in_chat)


def require_reasoning_parser(
    settings: Sampling, tokenizer: "PreTrainedTokenizerFast", prompts: Sequence[Prompt]
) -> None:
    """Check that a JSON schema does not keep a thinking model from thinking.

    Raises:
        HeirloomError: it would, since no parser separates the reasoning, which the schema does not allow.
    """
    if not settings.json_schema or settings.reasoning_parser or not any(prompt.conversation for prompt in prompts):
        return
    if ChatTemplate(tokenizer).can_think:
        raise HeirloomError(
            "generate.json_schema is set, and the chat template is that of a thinking model, which the schema would "
            "keep from thinking. Set generate.reasoning_parser to vLLM's parser for the model, such as 'qwen3'."
        )


def end_plain_response(prompt: Prompt, completion: Completion) -> Completion:
    """End a response to messages at the header of the next message, which a model without a template writes as text."""
    return replace(completion, text=first_response(completion.text)) if prompt.conversation else completion


def refusal_error(refusals: Sequence[str], num_texts: int) -> HeirloomError:
    """Return the error for conversations that a template refuses, given its messages."""
    return HeirloomError(
        f"{refusals[0]} It refuses {len(refusals):,} of {num_texts:,} records. Use a base model whose template accepts "
        "them, or ingest the conversations without what it refuses."
    )


def _plain_parts(text: Text) -> Sequence[str]:
    """Return a text as a prompt, which may be empty, and a response."""
    if isinstance(text, ChatText):
        return ()
    return ("", text) if isinstance(text, str) else text


def report_chat(
    tokenizer: "PreTrainedTokenizerFast", texts: Sequence[Text], pairs: Sequence[PreferencePair]
) -> ChatReport | None:
    """Return how conversations among these are written; None if there are none."""
    conversations = [text.conversation for text in texts if isinstance(text, ChatText)]
    num_texts = len(conversations)
    for pair in pairs:
        if pair.chat:
            messages = [*pair.chat.prompt.messages, pair.chat.chosen]
            conversations.append(Conversation(messages=messages, tools=pair.chat.prompt.tools))
    if not conversations:
        return None
    template = ChatTemplate(tokenizer)
    whole = [text.whole for text in texts if isinstance(text, ChatText)]
    without_response = sum(
        not is_whole and not template.encode(conversation, whole=False)
        for conversation, is_whole in zip(conversations[:num_texts], whole, strict=True)
    )
    unwritten = Counter(name for each in conversations for name in sorted(template.unwritten_fields(each)))
    return ChatReport(template.source, template.exists, len(conversations), without_response, dict(unwritten))


class ChatTemplate:
    """The chat template of a tokenizer.

    Args:
        tokenizer: the tokenizer of the model, which may have no template.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerFast") -> None:
        self._tokenizer = tokenizer
        template: str | Mapping[str, str] | None = tokenizer.chat_template
        # Some tokenizers have several templates by name.
        self._template = template["default"] if isinstance(template, Mapping) else template
        special = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
        self._special_names = sorted(special, key=len, reverse=True)

    @property
    def exists(self) -> bool:
        """Whether the tokenizer has a template."""
        return bool(self._template)

    @cached_property
    def source(self) -> str:
        """Where the template of training rows is from, for reports."""
        if not self._template:
            return "none, plain text"
        return "the model's own" if self._training_template == self._template else "the model's own, with TRL's marks"

    @property
    def can_think(self) -> bool:
        """Whether the template is of a model that reasons before it responds."""
        return re.search("enable_thinking|reasoning_content", self._template or "") is not None

    def encode_prompt(self, conversation: Conversation) -> list[int]:
        """Return the token ids of messages, and of the header of the response to them.

        Raises:
            HeirloomError: the template refuses the messages.
        """
        if not self._template:
            (ids,) = tokenize_texts(self._tokenizer, [render_prompt(conversation.messages)])
            return [*self._begin, *ids]
        text, _, originals = self._render(self._template, conversation, add_generation_prompt=True)
        return self._encode(text, [], originals).ids

    def encode(self, conversation: Conversation, *, whole: bool) -> list[TokenRow]:
        """Return the training rows of a conversation; none if nothing in it has a loss.

        There is one row, unless the template writes a response differently when more messages follow, has no marks,
        and is not known to TRL: then there is a row for each response.

        Args:
            conversation: messages and tools.
            whole: whether all tokens are part of the loss, rather than responses alone.

        Raises:
            HeirloomError: the template refuses the messages.
        """
        if not self._template:
            if whole:
                return [self._plain_row("", render_chat(conversation.messages), prompt_counts=True)]
            return [self._plain_row(*pair) for pair in responses_with_context(conversation.messages)]
        if whole:
            text, _, originals = self._render(self._template, conversation)
            return [self._encode(text, [(0, len(text))], originals)]
        rows = self._marked_rows(conversation) if self._has_marks else self._unmarked_rows(conversation)
        return [row for row in rows if any(row.mask)]

    def encode_pair(self, prompt: Conversation, chosen: Message, rejected: Message) -> TokenPair:
        """Return the token ids of two responses, and of what both have in common with the prompt.

        As in TRL, the responses begin where they differ from the prompt, which for some templates is within its end.

        Raises:
            HeirloomError: the template refuses the messages.
        """
        prompt_ids = self.encode_prompt(prompt)
        wholes = []
        for response in (chosen, rejected):
            conversation = Conversation(messages=[*prompt.messages, response], tools=prompt.tools)
            if self._template:
                text, _, originals = self._render(self._template, conversation)
                wholes.append(self._encode(text, [], originals).ids)
            else:
                wholes.append(self._plain_row(*responses_with_context(conversation.messages)[-1]).ids)
        length = min(_common_length(prompt_ids, ids) for ids in wholes)
        return TokenPair(prompt_ids[:length], wholes[0][length:], wholes[1][length:])

    @cached_property
    def end_of_turn_id(self) -> int | None:
        """The special token that ends a response, if that is not the tokenizer's end token.

        It is the first special token that the template writes after the text of a response.
        """
        if not self._template:
            return None
        messages: list[Message] = [{"role": "user", "content": "a"}, {"role": ASSISTANT_ROLE, "content": "b"}]
        prompt = self.encode_prompt(Conversation(messages=messages[:1]))
        text, _, originals = self._render(self._template, Conversation(messages=messages))
        ids = self._encode(text, [], originals).ids
        added = self._tokenizer.added_tokens_decoder
        after = [token for token in ids[_common_length(prompt, ids) :] if token in added and added[token].special]
        return next((token for token in after[:1] if token != self._tokenizer.eos_token_id), None)

    def unwritten_fields(self, conversation: Conversation) -> set[str]:
        """Return the fields of a conversation that the template does not write, which a model then never sees."""
        if not self._template:
            return {"tools"} if conversation.tools else set()
        text = self._render(self._training_template, conversation)[0]
        missing = set()
        for message in conversation.messages:
            if message.get("reasoning", "").strip() not in text:
                missing.add("reasoning")
            calls = message.get("tool_calls", ())
            if any(call["function"]["name"] not in text for call in calls):
                missing.add("tool_calls")
        if any(str(tool["function"]["name"]) not in text for tool in conversation.tools):
            missing.add("tools")
        return missing

    @property
    def _begin(self) -> list[int]:
        begin = self._tokenizer.bos_token_id
        return [begin if begin is not None else self._tokenizer.eos_token_id]

    @property
    def _has_marks(self) -> bool:
        return _GENERATION_MARK.search(self._training_template) is not None

    @cached_property
    def _training_template(self) -> str:
        """The template with generation marks: the model's own if it has any, else TRL's version of it."""
        template = self._template or ""
        if not template or _GENERATION_MARK.search(template):
            return template
        try:
            from trl.chat_template_utils import get_training_chat_template
        except ImportError:
            return template
        try:
            return get_training_chat_template(self._tokenizer) or template
        # ValueError: TRL does not know the template. Its checks also render messages that a template may refuse.
        except Exception:  # noqa: BLE001
            return template

    def _plain_row(self, prompt: str, response: str, *, prompt_counts: bool = False) -> TokenRow:
        prompt_ids, response_ids = tokenize_texts(self._tokenizer, [prompt, response])
        start = [*self._begin, *prompt_ids]
        end = [*response_ids, self._tokenizer.eos_token_id]
        return TokenRow([*start, *end], [prompt_counts] * len(start) + [True] * len(end))

    def _marked_rows(self, conversation: Conversation) -> list[TokenRow]:
        text, spans, originals = self._render(self._training_template, conversation, with_spans=True)
        return [self._encode(text, spans, originals)]

    def _unmarked_rows(self, conversation: Conversation) -> Iterator[TokenRow]:
        messages, template = conversation.messages, self._training_template
        text, _, originals = self._render(template, conversation)
        spans: Spans = []
        separate = False
        responses = [place for place, message in enumerate(messages) if message["role"] == ASSISTANT_ROLE and place]
        for place in responses:
            before = Conversation(messages=messages[:place], tools=conversation.tools)
            until = Conversation(messages=messages[: place + 1], tools=conversation.tools)
            prompt = self._render(template, before, add_generation_prompt=True)[0]
            end = self._render(template, until)[0]
            separate |= not text.startswith(end)
            spans.append((_common_length(prompt, end), len(end)))
        if not separate:
            yield self._encode(text, spans, originals)
            return
        for place, span in zip(responses, spans, strict=True):
            until = Conversation(messages=messages[: place + 1], tools=conversation.tools)
            text, _, originals = self._render(template, until)
            yield self._encode(text, [span], originals)

    def _render(
        self,
        template: str,
        conversation: Conversation,
        *,
        add_generation_prompt: bool = False,
        with_spans: bool = False,
    ) -> tuple[str, Spans, dict[str, str]]:
        """Return the text of a conversation, the spans of its generation marks, and what its markers stand for.

        Names of special tokens in the messages are replaced by one private character each, the markers.
        """
        from jinja2.exceptions import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        messages = [_for_template(message, template) for message in conversation.messages]
        messages, tools, originals = self._mark_names(messages, conversation.tools)
        arguments: dict[str, Any] = {
            # Some templates write a header for an empty list of tools.
            "tools": tools or None,
            "chat_template": template,
            "add_generation_prompt": add_generation_prompt,
            "return_assistant_tokens_mask": with_spans,
            **self._tokenizer.special_tokens_map,
        }
        try:
            try:
                rendered, spans = render_jinja_template(conversations=[messages], **arguments)
            except TypeError:
                # Some templates take the arguments of calls as JSON text, and fail at any other type.
                texts = [_with_text_arguments(message) for message in messages]
                rendered, spans = render_jinja_template(conversations=[texts], **arguments)
        except (TemplateError, TypeError, ValueError) as error:
            raise HeirloomError(f"The chat template refuses the messages: {one_line(error)}") from error
        return rendered[0], list(spans[0]) if with_spans else [], originals

    def _mark_names(
        self, messages: list[dict[str, Any]], tools: Sequence[Tool]
    ) -> tuple[list[dict[str, Any]], list[Tool], dict[str, str]]:
        whole = json.dumps([messages, list(tools)], ensure_ascii=False)
        # In JSON, a quote or backslash within a name would be escaped.
        found = [name for name in self._special_names if json.dumps(name, ensure_ascii=False)[1:-1] in whole]
        if not found:
            return messages, list(tools), {}
        first = _FIRST_MARKER
        while any(chr(first + index) in whole for index in range(len(found))):
            first += len(found)
        originals = {chr(first + index): name for index, name in enumerate(found)}
        pattern = re.compile("|".join(map(re.escape, found)))
        markers = {name: marker for marker, name in originals.items()}

        def mark(value: Any) -> Any:  # noqa: ANN401  (JSON)
            if isinstance(value, str):
                return pattern.sub(lambda match: markers[match.group()], value)
            if isinstance(value, Mapping):
                return {key: each if key == "role" else mark(each) for key, each in value.items()}
            return [mark(each) for each in value] if isinstance(value, list | tuple) else value

        return [mark(message) for message in messages], [mark(tool) for tool in tools], originals

    def _encode(self, text: str, spans: Spans, originals: Mapping[str, str]) -> TokenRow:
        """Tokenize a rendered text; its markers become the text that they stand for, and no special token."""
        ids: list[int] = []
        mask: list[bool] = []
        offset = 0
        pieces = re.split(f"([{''.join(originals)}])", text) if originals else [text]
        for piece in pieces:
            piece_spans = [(start - offset, end - offset) for start, end in spans]
            offset += len(piece)
            if piece in originals:
                (piece_ids,) = tokenize_texts(self._tokenizer, [originals[piece]])
                mask += [any(start <= 0 < end for start, end in piece_spans)] * len(piece_ids)
            elif piece:
                encoding = self._tokenizer(piece, add_special_tokens=False, split_special_tokens=False)
                piece_ids = encoding["input_ids"]
                mask += _token_mask(encoding, len(piece_ids), len(piece), piece_spans)
            else:
                continue
            ids += piece_ids
        return TokenRow(ids, mask)


def _token_mask(encoding: Any, num_tokens: int, length: int, spans: Spans) -> list[bool]:  # noqa: ANN401  (BatchEncoding)
    """Return which tokens belong to spans of characters, from the token of the first to that of the last character."""
    mask = [False] * num_tokens
    for span_start, span_end in spans:
        start, end = max(0, span_start), min(length, span_end)
        tokens = [token for place in (start, end - 1) if (token := encoding.char_to_token(0, place)) is not None]
        if start >= end or not tokens:
            continue
        # A character that no token has, such as white space that is stripped, is next to one that has.
        for token in range(tokens[0], tokens[-1] + 1):
            mask[token] = True
    return mask


def _for_template(message: Message, template: str) -> dict[str, Any]:
    """Return a message with the names that a template has for its fields."""
    fields: dict[str, Any] = {**message, "content": message["content"] or ""}
    if message["role"] == "developer" and "developer" not in template:
        fields["role"] = "system"
    reasoning = fields.pop("reasoning", None)
    if reasoning:
        fields |= {name: reasoning for name in _REASONING_FIELDS if re.search(rf"\b{name}\b", template)}
    return fields


def _with_text_arguments(message: Mapping[str, Any]) -> dict[str, Any]:
    calls = [
        {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
        for call in message.get("tool_calls", ())
    ]
    return {**message, "tool_calls": calls} if calls else dict(message)


def _common_length(first: Sequence[object], second: Sequence[object]) -> int:
    """Return the number of leading elements that two sequences have in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
