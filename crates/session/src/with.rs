//! Values that are made from their default: configurations and options, which grow.

/// Gives types a method `with`.
macro_rules! with {
    ($($type:ty),* $(,)?) => {
        $(impl $type {
            /// The same with what the closure changes.
            #[must_use]
            pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
                change(&mut self);
                self
            }
        })*
    };
}
pub(crate) use with;
