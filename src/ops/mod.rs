//! What the commands do, apart from how they are spelt on the command line.

pub mod check;
