//! The contract as files: what `docs/` promises to other programs is what the worker does.

mod explain;
