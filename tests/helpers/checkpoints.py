"""Small randomly initialised checkpoints, in the layout that transformers saves and loads."""

from pathlib import Path

AMINO = "LAGVSERTIDPKQNFYMHWCXBUZO"
WORDS = (
    *("disease", "of", "the", "heart", "liver", "kidney", "rare", "common", "acid", "binding"),
    *("c", "n", "o", "(", ")", "=", "1", "2", "cl", "."),
)


def save_bert(folder: Path, seed: int = 0, positions: int = 40) -> Path:
    """A BERT of width 32 over a vocabulary of words, with [CLS] and [SEP]."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import BertConfig, BertModel

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {w: i for i, w in enumerate([*specials, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    _save_tokenizer(folder, tokenizer, "[CLS] $A [SEP]", specials, pad="[PAD]", unk="[UNK]")
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=positions,
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def save_esm(folder: Path) -> Path:
    """An ESM-2 of width 32, with rotary positions and the real alphabet."""
    import torch
    from transformers import EsmConfig, EsmModel, EsmTokenizer

    folder.mkdir()
    letters = ["<cls>", "<pad>", "<eos>", "<unk>", *AMINO, ".", "-", "<null_1>", "<mask>"]
    (folder / "vocab.txt").write_text("\n".join(letters))
    EsmTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = EsmConfig(
        vocab_size=len(letters),
        pad_token_id=1,
        mask_token_id=len(letters) - 1,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=1026,
        position_embedding_type="rotary",
        token_dropout=True,
        initializer_range=0.3,
    )
    EsmModel(config).save_pretrained(folder)
    return folder


def save_t5(folder: Path, letters: str = "ACDEFGHIKLMNPQRSTVWYX") -> Path:
    """A T5 of width 32 whose tokenizer reads letters between blanks, as ProtT5's does."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import T5Config, T5EncoderModel

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -9.0)]
    pieces += [(f"▁{c}", -3.0) for c in letters] + [(c, -4.0) for c in letters]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    _save_tokenizer(folder, tokenizer, "$A </s>", ["</s>"], pad="<pad>", unk="<unk>")
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(pieces), d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4
    )
    T5EncoderModel(config).save_pretrained(folder)
    return folder


def save_gpt2(folder: Path, chat: str | None = None, positions: int = 1024) -> Path:
    """A causal language model of width 16 over words and SMILES; `chat` is its template."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", "<eos>", *WORDS, "<smiles>CCO</smiles>", "CC(=O)Oc1ccccc1", "<user>"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>"
    )
    fast.chat_template = chat
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(words),
        n_positions=positions,
        n_embd=16,
        n_layer=1,
        n_head=2,
        bos_token_id=2,
        eos_token_id=2,
        initializer_range=1.0,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def _save_tokenizer(
    folder: Path, tokenizer: object, template: str, specials: list[str], pad: str, unk: str
) -> None:
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    pairs = [(t, tokenizer.token_to_id(t)) for t in specials]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=pairs)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, unk_token=unk)
    fast.save_pretrained(folder)
