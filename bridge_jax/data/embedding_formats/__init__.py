"""Readers of embedding files, one module per format.

detect          format of a file by its first bytes, and what to do about one that cannot be read
folder          embedding files of a folder, and the files that are not read
base            protocol of a reader, options, size limits
ids             ids as text, and text files of ids
arrays          which of several named arrays are the embeddings and the ids
shards          TFRecord shards of this project
npy, npz        NumPy
parquet         Parquet
hdf5, h5ad      HDF5 of UniProt and bio_embeddings; AnnData
torch_tensors   PyTorch and safetensors, the output of ESM
text_matrix     CSV, TSV and word2vec text
"""
