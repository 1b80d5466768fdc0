"""What a collection is made of, wherever it comes from."""

Text = tuple[str, str]  # id, text
Judgement = tuple[str, str, int]  # query id, document id, grade


def with_title(title: str | None, text: str | None) -> str:
    """Title, a space, text, as BEIR's models read them."""
    return f"{title or ''} {text or ''}".strip()
