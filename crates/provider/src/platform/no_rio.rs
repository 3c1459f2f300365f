//! Registered I/O where there is none.

/// Functions of registered I/O, which is of Windows: there are none here.
#[derive(Clone, Copy, Debug)]
pub enum RioFunctions {}
