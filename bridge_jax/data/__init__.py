"""Datasets on disk and in memory: embeddings, graph, splits, leakage audit and batches.

Files:

    files             atomic writes, checksums, paths that stay in their folder
    output_lock       lock on an output folder
    tfrecord          shards of fixed-length records
    text_files        text in any compression, encoding and line ends
    delimited_text    delimiter, header and records of delimited text
    missing           texts that stand for a missing value
    manifest          contents of a dataset directory
    dataset           node embeddings and triples of a dataset directory
    embedding_files   embeddings in shards, npy, npz or parquet files, read in blocks
    npy_reader        an npy array in a file or a zip member, read in blocks
    shard_journal     progress of an export or a projection, so that it can be resumed
    export_swap       replacement of an export by another one

Arrays in memory:

    graph             facts, triple types, queries and known positives
    splits            split rules
    leakage           what the training facts reveal about the other splits
    embedding_tables  frozen embeddings and their affine transforms
    batches           training batches as a function of (seed, step)
"""
