"""Batches seen as OpenAI's: made of an uploaded file's lines (`source`), shown with it (`read`), and their requests and
results read as files of lines (`views`), whose ids are the batch's (`parts`).
"""

from core.file_batches.parts import Part, file_id, parse_file_id
from core.file_batches.read import get, page
from core.file_batches.source import CHAT, ENDPOINTS, submit
from core.file_batches.views import content, size_bytes

__all__ = ["CHAT", "ENDPOINTS", "Part", "content", "file_id", "get", "page", "parse_file_id", "size_bytes", "submit"]
