"""Builds SavedModels that encode texts, as one from TF Hub does."""

import tensorflow as tf


class Encoder(tf.Module):
    """The mean of a text's words' vectors, of three known words, from a file, and all others.

    Args:
        folder: Gets the file of words.
        width: Of the vectors.
    """

    def __init__(self, folder, width=3):
        super().__init__()
        file = folder / "words.txt"
        file.write_text("good\nbad\nfine\n")
        lines, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        words = tf.lookup.TextFileInitializer(str(file), tf.string, lines, tf.int64, number)
        self.words = tf.lookup.StaticVocabularyTable(words, num_oov_buckets=1)
        self.vectors = tf.Variable(tf.eye(4, width) - 0.1, name="encoder/vectors")
        self.calls = tf.Variable(7, trainable=False)  # no number to learn

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def encode(self, texts):
        words = tf.strings.split(texts)
        vectors = tf.gather(self.vectors, self.words.lookup(words.flat_values))
        sums = tf.math.unsorted_segment_sum(vectors, words.value_rowids(), tf.size(texts))
        lengths = tf.cast(words.row_lengths(), tf.float32)[:, None]
        return {"encoded": sums / tf.maximum(lengths, 1.0) + 0.0 * tf.cast(self.calls, tf.float32)}


def write_encoder(root, name="encoder", width=3):
    """Saves one in `root`, without what it was made of beside it; returns its path."""
    root.mkdir(exist_ok=True, parents=True)
    encoder = Encoder(root, width)
    signatures = {"serving_default": encoder.encode}
    tf.saved_model.save(encoder, str(root / name), signatures=signatures)
    (root / "words.txt").unlink()
    return root / name


def write_other(path, take, *specs):
    """Saves a SavedModel of another signature."""
    signature = tf.function(take, input_signature=specs)
    tf.saved_model.save(tf.Module(), str(path), signatures={"serving_default": signature})
    return str(path)
