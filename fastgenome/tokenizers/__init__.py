"""Tokenizers of the published DNA models: sequences in, packed ids and offsets out.

The C++ core encodes on all cores without the GIL; nothing is padded and nothing is cut off. With `clean=True`
(the default) a sequence is first upper-cased, U becomes T where it holds no T, IUPAC codes become N, and gaps
and white space are removed. With `clean=False` the ids are those of the reference tokenizer for the text as
it stands, where lower case is mostly unknown.
"""

from fastgenome.tokenizers.families import TOKENIZERS, load_tokenizer
from fastgenome.tokenizers.kmer_tokenizer import KmerTokenizer
from fastgenome.tokenizers.one_hot import OneHot, one_hot
from fastgenome.tokenizers.opt_tokenizer import OptTokenizer
from fastgenome.tokenizers.tokenizer import Tokenizer, Tokens

__all__ = [
    "TOKENIZERS",
    "KmerTokenizer",
    "OneHot",
    "OptTokenizer",
    "Tokenizer",
    "Tokens",
    "load_tokenizer",
    "one_hot",
]
