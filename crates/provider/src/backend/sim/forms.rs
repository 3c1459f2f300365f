//! Forms of the simulated back end.
#![forbid(unsafe_code)]

use crate::base::error::Feature;
use crate::base::kind::Kind;
use crate::contract::form::Form;
use crate::socket::sim::fault::FaultPlan;

const SIM: Form = Form { plan: Some(FaultPlan::default), uses: &[Feature::VirtualTime], ..Form::new("sim", Kind::Sim) };
/// At its worst: late, in pieces, in another order. Connections hold, as the tests expect.
const ROUGH: Form = Form { name: "sim_rough", plan: Some(FaultPlan::rough), ..SIM };

/// On a perfect network and on a rough one, with addresses and with names in their place.
pub(crate) const FORMS: &[Form] = &[SIM, ROUGH, SIM.over_unix("sim_unix"), ROUGH.over_unix("sim_rough_unix")];
