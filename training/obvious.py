"""The obvious way to write it, to be measured against: sentence-transformers MiniLM, a faiss index, scikit-learn.

Used by `probewatch bench label`; needs the training extra.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import faiss
import numpy as np
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression

from training.encoder import packaged_teacher

TEMPLATES, NEIGHBOURS, CLASSES = 512, 8, 4


def obvious_seconds(texts: Sequence[str]) -> float:
    """Seconds from texts to embeddings, nearest templates and probabilities, once the models are loaded."""
    rng = np.random.default_rng(0)
    model = SentenceTransformer(str(packaged_teacher()), device="cpu", local_files_only=True)
    known = rng.standard_normal((TEMPLATES, len(model.encode(texts[0])))).astype(np.float32)
    index = faiss.IndexFlatIP(known.shape[1])
    index.add(known)
    heads = LogisticRegression().fit(known, np.arange(TEMPLATES) % CLASSES)
    model.encode(list(texts[:8]))
    started = time.perf_counter()
    embeddings = model.encode(list(texts), batch_size=64, normalize_embeddings=True, show_progress_bar=False)
    index.search(embeddings, NEIGHBOURS)
    heads.predict_proba(embeddings)
    return time.perf_counter() - started
