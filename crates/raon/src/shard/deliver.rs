//! Delivery: the one place from which the application and the user's framing are called.
//!
//! 1. Each way in (`enter`) may call the application, or have the core do something. A callback runs inside a panic boundary,
//!    and has the core, and all states but that of its own session, at hand.
//! 2. Sessions that have ended meanwhile are told to the application before the way out. So nobody can forget to tell them,
//!    no `on_close` is inside another callback, and each comes once.
//! 3. A framing that panics ends the session whose bytes it was given. The bytes of others are looked at as before.
//!
//! Only `with_core` lends the core for changes to sessions, and no other file sees the application.

use std::collections::VecDeque;
use std::sync::Arc;

use raon_provider::{Driver, ErrorKind};
use raon_session::{CloseReason, Framing, Inbox, Pressure};

use crate::application::context::{CallbackEnv, Context};
use crate::application::states::States;
use crate::application::{AppRouter, Application, Head};
use crate::base::boundary;
use crate::base::metrics::ServerStats;
use crate::config::OnPanic;
use crate::core::ShardCore;
use crate::routing::mailbox::Command;

/// Messages of one session that are given to the application in one step: a thousand sessions that send the shortest
/// ones take as long as a turn takes that is full of bytes.
const MESSAGES_PER_TURN: u32 = 256;

/// See the module.
pub(super) struct Delivery<A: Application> {
    application: A,
    /// The framing once more, so that messages can be found while a callback has the core.
    framing: A::Framing,
    core: ShardCore<A::Framing>,
    states: States<A::Session>,
    /// Begun frames by slot, beside the sessions, so that messages can be read in there while a callback has the core.
    inboxes: Vec<Inbox>,
    /// Posts to keys that are at home here, by this shard itself.
    posts: VecDeque<(u64, A::Post)>,
    router: Arc<AppRouter<A>>,
    /// A callback has panicked, and the shard is to stop for it.
    is_broken: bool,
}

impl<A: Application> Delivery<A> {
    pub(super) fn new(
        application: A,
        framing: A::Framing,
        core: ShardCore<A::Framing>,
        router: Arc<AppRouter<A>>,
    ) -> Self {
        Delivery {
            application,
            framing,
            core,
            states: States::default(),
            inboxes: Vec::new(),
            posts: VecDeque::new(),
            router,
            is_broken: false,
        }
    }

    /// The core, to be looked at.
    pub(super) fn core(&self) -> &ShardCore<A::Framing> {
        &self.core
    }

    /// The driver, for what is about no session.
    pub(super) fn driver_mut(&mut self) -> &mut Driver {
        self.core.driver_mut()
    }

    /// Counters, for what the core does not see.
    pub(super) fn stats_mut(&mut self) -> &mut ServerStats {
        self.core.stats_mut()
    }

    /// True if a callback has panicked and the shard is to stop for it.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// True if the shard has posted something to itself.
    pub(super) fn has_posts(&self) -> bool {
        !self.posts.is_empty()
    }

    /// Has the core do something.
    #[inline]
    pub(super) fn with_core<R>(&mut self, act: impl FnOnce(&mut ShardCore<A::Framing>) -> R) -> R {
        self.enter(|own| act(&mut own.core))
    }

    /// Opens the session in this slot. `begun` says whether its stream of input could be asked for.
    pub(super) fn open(&mut self, index: u32, begun: Result<(), ErrorKind>) {
        self.enter(|own| {
            let place = index as usize;
            if place >= own.inboxes.len() {
                own.inboxes.resize_with(place + 1, Inbox::default);
            }
            match own.call(Some(index), |application, ctx| application.on_open(ctx)) {
                Some(state) => {
                    own.states.put(index, state);
                    let stats = own.core.stats_mut();
                    (stats.opened, stats.sessions) = (stats.opened + 1, stats.sessions + 1);
                }
                None => own.core.close(index, CloseReason::ApplicationPanic),
            }
            if let Err(kind) = begun {
                own.core.connection_failed(index, kind);
            }
        });
    }

    /// Gives each message in some input of a session to the application. Returns how many bytes are left because reading
    /// stopped.
    #[inline]
    pub(super) fn input(&mut self, index: u32, bytes: &[u8]) -> usize {
        self.enter(|own| {
            let mut input = bytes;
            let given = own.give(index, &mut input);
            if !matches!(given, Some(Ok(()))) {
                own.input_failed(index, given);
            }
            if own.core.table().is_live(index) {
                let bytes = own.inboxes.get(index as usize).map_or(0, Inbox::charged_bytes);
                own.core.charge_inbox(index, bytes);
                return input.len();
            }
            own.core.stats_mut().bytes_discarded += input.len() as u64;
            0
        })
    }

    /// The peer has ended its side, behind all input.
    pub(super) fn peer_ended(&mut self, index: u32) {
        self.enter(|own| {
            if let Some(inbox) = own.inboxes.get_mut(index as usize) {
                own.core.clear_inbox(index, inbox);
            }
            own.core.peer_ended(index);
        });
    }

    /// The outbox of a session has passed a watermark.
    pub(super) fn pressure(&mut self, index: u32, pressure: Pressure) {
        self.enter(|own| {
            own.core.press(index, pressure);
            own.call_session(index, |application, ctx, state| application.on_pressure(ctx, state, pressure));
        });
    }

    /// A session has been silent for as long as calls for a heartbeat.
    pub(super) fn heartbeat(&mut self, index: u32) {
        self.enter(|own| own.call_session(index, |application, ctx, state| application.on_heartbeat(ctx, state)));
    }

    /// A timer of the application has fired.
    pub(super) fn timer(&mut self, token: u64) {
        self.enter(|own| own.call(None, |application, ctx| application.on_timer(ctx, token)));
    }

    /// The tick is due.
    pub(super) fn tick(&mut self) {
        self.enter(|own| own.call(None, |application, ctx| application.on_tick(ctx)));
    }

    /// The server ends.
    pub(super) fn shutdown(&mut self) {
        self.enter(|own| own.call(None, |application, ctx| application.on_shutdown(ctx)));
    }

    /// Something was posted to a key that is at home here.
    pub(super) fn post(&mut self, key: u64, post: A::Post) {
        self.enter(|own| {
            own.core.stats_mut().posts += 1;
            own.call(None, |application, ctx| application.on_post(ctx, key, post));
        });
    }

    /// Delivers what the shard had posted to itself before this; what these posts post comes in the next step.
    pub(super) fn own_posts(&mut self) {
        for _ in 0..self.posts.len() {
            if let Some((key, post)) = self.posts.pop_front() {
                self.post(key, post);
            }
        }
    }

    /// Queues messages that others have sent: those at the end of the list, which is in reverse order, until there is
    /// something else, or one for a session that is gone. One panic boundary is enough for all of them: what the framing had
    /// begun with when it panicked is known, and the rest is still in the list.
    pub(super) fn queue_mail(&mut self, commands: &mut Vec<Command<Head<A>, A::Post>>, arena: &[u8]) {
        self.enter(|own| {
            let core = &mut own.core;
            let Some(mut receiver) = next_receiver(core, commands) else { return };
            let queued = boundary::contain(|| {
                loop {
                    match commands.pop() {
                        Some(Command::Send { head, body, .. }) => {
                            core.append(receiver, head, &arena[body.start as usize..body.end as usize]);
                        }
                        Some(Command::SendShared { head, body, .. }) => {
                            core.append_shared(receiver, head, &body);
                        }
                        _ => return,
                    }
                    let Some(next) = next_receiver(core, commands) else { return };
                    receiver = next;
                }
            });
            if queued.is_none() {
                own.core.close(receiver, CloseReason::ApplicationPanic);
                own.panicked();
            }
        });
    }

    /// Every way in. What has ended by it is told before it is over.
    #[inline]
    fn enter<R>(&mut self, act: impl FnOnce(&mut Self) -> R) -> R {
        let result = act(self);
        if self.core.has_ended() {
            self.tell_ended();
        }
        result
    }

    /// Tells the application of sessions that have ended.
    #[cold]
    fn tell_ended(&mut self) {
        while let Some((index, reason)) = self.core.next_ended() {
            if let Some(inbox) = self.inboxes.get_mut(index as usize) {
                self.core.clear_inbox(index, inbox);
            }
            // None: `on_open` has panicked, so the application knows of no session.
            let Some(state) = self.states.take(index) else { continue };
            self.core.stats_mut().sessions -= 1;
            self.call(Some(index), |application, ctx| application.on_close(ctx, state, reason));
        }
    }

    /// Calls the application about the session in this slot, whose state is not its own yet or any more, or about none.
    fn call<R>(&mut self, current: Option<u32>, callback: impl FnOnce(&mut A, &mut Context<'_, A>) -> R) -> Option<R> {
        let Delivery { application, core, states, posts, router, .. } = self;
        let env = CallbackEnv { router, posts, states: states.all() };
        let mut ctx = Context::new(core, env, current);
        let called = boundary::contain(|| callback(application, &mut ctx));
        if called.is_none() {
            self.panicked();
        }
        called
    }

    /// Calls the application about a session, if it has one of this slot.
    fn call_session(&mut self, index: u32, callback: impl FnOnce(&mut A, &mut Context<'_, A>, &mut A::Session)) {
        if !self.core.table().is_live(index) {
            return;
        }
        let Delivery { application, core, states, posts, router, .. } = self;
        let Some((state, others)) = states.split(index) else { return };
        let mut ctx = Context::new(core, CallbackEnv { router, posts, states: others }, Some(index));
        let called = boundary::contain(|| callback(application, &mut ctx, state));
        if called.is_none() {
            self.core.close(index, CloseReason::ApplicationPanic);
            self.panicked();
        }
    }

    /// Finds the messages in some input and gives them to the application. `None`: that or the framing has panicked.
    /// `Some(Err)`: the session is to end.
    fn give(&mut self, index: u32, input: &mut &[u8]) -> Option<Result<(), CloseReason>> {
        if !self.core.table().is_live(index) {
            return Some(Ok(()));
        }
        let Delivery { application, framing, core, states, inboxes, posts, router, .. } = self;
        let (Some((state, others)), Some(inbox)) = (states.split(index), inboxes.get_mut(index as usize)) else {
            return Some(Ok(()));
        };
        core.begin_answering(index);
        let mut ctx = Context::new(core, CallbackEnv { router, posts, states: others }, Some(index));
        let given = boundary::contain(|| give_messages(application, &mut ctx, (framing, inbox), index, state, input));
        self.core.end_answering();
        given
    }

    #[cold]
    fn input_failed(&mut self, index: u32, given: Option<Result<(), CloseReason>>) {
        let reason = given.and_then(Result::err).unwrap_or(CloseReason::ApplicationPanic);
        self.core.close(index, reason);
        if given.is_none() {
            self.panicked();
        }
    }

    /// The application has panicked.
    #[cold]
    fn panicked(&mut self) {
        self.core.stats_mut().panics += 1;
        self.is_broken |= self.core.settings().on_panic == OnPanic::StopShard;
    }
}

/// Until the input is used up, reading stops, or the session has ended: then the rest stays in `input`. Errors: why it is to
/// end.
#[inline]
fn give_messages<A: Application>(
    application: &mut A,
    ctx: &mut Context<'_, A>,
    (framing, inbox): (&A::Framing, &mut Inbox),
    index: u32,
    state: &mut A::Session,
    input: &mut &[u8],
) -> Result<(), CloseReason> {
    let now_ns = ctx.core.now_ns();
    let is_exact = ctx.core.settings().session.rate.is_on();
    let mut is_first = true;
    let mut share = MESSAGES_PER_TURN;
    while input.is_empty() || ctx.core.may_give(index) {
        if share == 0 && !input.is_empty() {
            ctx.core.use_up_share();
            break;
        }
        share = share.saturating_sub(1);
        // Used up, this also gives back the memory of the last message.
        let Some(message) = ctx.core.next_message(framing, inbox, input)? else { break };
        if is_first || is_exact {
            is_first = false;
            ctx.core.heard(index, now_ns, message.len() as u32)?;
        }
        ctx.core.stats_mut().messages_received += 1;
        application.on_message(ctx, state, message);
    }
    Ok(())
}

/// The slot of the session that the last command is for, if it is a message.
#[inline]
fn next_receiver<F: Framing, P>(core: &ShardCore<F>, commands: &[Command<F::Head, P>]) -> Option<u32> {
    match commands.last()? {
        Command::Send { id, .. } | Command::SendShared { id, .. } => core.table().resolve(*id),
        _ => None,
    }
}
