//! Panic boundary: a panic of the application does not take the shard with it.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a callback; `None` if it has panicked. What it had borrowed is whole as far as the engine goes, because the engine
/// changes nothing across a callback; what the application had begun is its own.
#[inline]
pub(crate) fn contain<R>(callback: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(callback)) {
        Ok(result) => Some(result),
        Err(payload) => {
            // What was thrown may panic when it is dropped.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
            None
        }
    }
}

/// Runs whatever may panic outside of callbacks. Errors: what the panic has said.
pub(crate) fn catch<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
        text.unwrap_or_else(|| "no message".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thorn;

    impl Drop for Thorn {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    #[test]
    fn a_panic_stays_inside_also_when_its_payload_panics() {
        assert_eq!(contain(|| 7), Some(7));
        assert_eq!(contain(|| panic!("an ordinary one")), None::<()>);
        assert_eq!(contain(|| std::panic::panic_any(Thorn)), None::<()>);
        assert_eq!(catch(|| 7), Ok(7));
        assert_eq!(catch(|| panic!("said")), Err::<(), _>("said".to_owned()));
        assert_eq!(catch(|| panic!("{}", 1)), Err::<(), _>("1".to_owned()));
        assert_eq!(catch(|| std::panic::panic_any(Thorn)), Err::<(), _>("no message".to_owned()));
    }
}
