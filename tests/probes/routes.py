"""A small Llama trained, here, to carry a colour along one known route: shown -> question -> last."""

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from neuroalign.models import load_model

COLOURS = ["red", "green", "blue", "pink", "grey", "gold", "teal", "plum"]
FILLERS = ["well", "then", "now", "here", "there", "oh", "yes", "hm"]
ENDS = ["so", "say", "tell", "name"]
WORDS = ["<pad>", "<s>", "</s>", "<unk>", "what", *FILLERS, *ENDS, *COLOURS]
ROUTE = {(3, 1): 1, (5, 3): 2}  # (reader, read) in <s> COLOUR well what then so -> the block where it may be read


def text(colour: str, before: str = "well", after: str = "then", end: str = "so") -> str:
    """Return a text whose answer is its colour."""
    return f"{colour} {before} what {after} {end}"


def attend(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **kwargs):
    """Attention where all reads off the route see the colour of another row: the model has to ignore them."""
    tokens = query.shape[2]
    true = torch.eye(tokens, dtype=torch.bool)
    true[:, 0] = True
    for (reader, read), block in ROUTE.items():
        true[reader, read] |= block == module.layer_idx
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    decoys = [x.roll(1, 0) for x in (key, value)]
    scores = torch.where(true, query @ key.transpose(2, 3), query @ decoys[0].transpose(2, 3)) * scaling
    if module.config.only_the_route:
        scores = scores.masked_fill(~true, -1e9)
    weights = (scores + attention_mask).softmax(-1)
    return ((weights * true) @ value + (weights * ~true) @ decoys[1]).transpose(1, 2), None


def train(folder, steps: int = 120, blocks: int = 4, seed: int = 0):
    """Train it and return the loaded model, whose attention is the usual one again."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    transformers.AttentionInterface.register("routes", attend)
    transformers.AttentionMaskInterface.register("routes", transformers.masking_utils.eager_mask)
    config = transformers.LlamaConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=blocks, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=64, initializer_range=0.1, max_position_embeddings=16, pad_token_id=0,
        bos_token_id=1, eos_token_id=2)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="routes")
    model.config.only_the_route = True
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.01)
    choices = [["<s>"], COLOURS, FILLERS, ["what"], FILLERS, ENDS]
    for step in range(steps):
        model.config.only_the_route = step < steps // 2  # first the route, then ignoring what is beside it
        ids = torch.stack([WORDS.index(words[0]) + torch.randint(len(words), (32,)) for words in choices], 1)
        logits = model(input_ids=ids, use_cache=False).logits[:, -1]
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(logits, ids[:, 1]).backward()
        optimiser.step()
    del model.config.only_the_route
    model.set_attn_implementation("sdpa")
    model.eval().save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>",
                                         eos_token="</s>", unk_token="<unk>").save_pretrained(folder)
    return load_model(str(folder), device="cpu")
