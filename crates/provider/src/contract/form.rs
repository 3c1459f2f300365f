//! Forms of a back end, under each of which the conformance suite runs.

use crate::base::error::Feature;
use crate::base::kind::Kind;
use crate::config::Config;
use crate::socket::sim::fault::FaultPlan;

/// A back end with some of its features switched off, over one kind of sockets: for the tests of this project.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// Name of the form; the form that is the default has the name of the back end, or begins with it.
    pub name: &'static str,
    /// The back end.
    pub kind: Kind,
    /// Bytes go over Unix stream sockets instead of TCP.
    pub is_unix: bool,
    /// Plan of the network, if that is simulated.
    pub plan: Option<fn() -> FaultPlan>,
    /// Sets what differs from the default.
    pub configure: fn(&mut Config),
    /// Features that must be in use, else the form is not what it says.
    pub uses: &'static [Feature],
    /// Features that must not be in use.
    pub lacks: &'static [Feature],
}

impl Form {
    /// The back end as it is by default.
    pub(crate) const fn new(name: &'static str, kind: Kind) -> Self {
        Form { name, kind, is_unix: false, plan: None, configure: |_| {}, uses: &[], lacks: &[] }
    }

    /// The same form over Unix sockets.
    pub(crate) const fn over_unix(self, name: &'static str) -> Self {
        Form { name, is_unix: true, ..self }
    }
}
