//! One suite for all back ends: every clause of `docs/semantics.md`, tested on every back end in every form.
//!
//! A test is a function that takes a [`Setup`](setup::Setup); [`every_test!`] lists them, `tests/every_backend.rs` runs each on each
//! set-up. A new back end is one more set-up, a new test one more name. Each test runs alone in the process (see
//! [`alone`]), so that it can be held to leave as many descriptors behind as it found.

#![allow(missing_docs, reason = "the name of a test says what it shows")]

pub mod accept;
pub mod address;
pub mod allocator;
pub mod alone;
pub mod bounds;
pub mod cancel;
pub mod child;
pub mod choice;
pub mod close;
pub mod datagram;
pub mod endpoints;
pub mod faults;
pub mod ledger;
pub mod lifetime;
pub mod limits;
pub mod merged;
pub mod once;
pub mod oracle;
pub mod order;
pub mod ownership;
pub mod pause;
pub mod peer;
pub mod platform;
pub mod random;
pub mod rig;
pub mod roles;
pub mod settings;
pub mod setup;
pub mod simulated;
pub mod stale;
pub mod starve;
pub mod steady;
pub mod storm;
pub mod stream;
pub mod threads;
pub mod time;
pub mod unix;
pub mod vacant;

/// Gives every test to a macro: the set-up, then per group its tests. The storms, which take long, are apart.
#[macro_export]
macro_rules! every_test {
    ($cases:ident, $setup:expr) => {
        $cases! { $setup;
            ownership: a_buffer_never_shows_what_others_left every_payload_form_comes_back a_failed_send_brings_its_payload_and_its_count
                a_room_comes_back_from_success_and_from_failure a_quiet_payload_is_dropped_after_use
                a_refused_operation_comes_back_whole a_late_refusal_brings_the_payload;
            once: nothing_completes_or_moves_inside_submit a_failed_turn_delivers_what_has_ended_first
                a_mixed_load_completes_each_operation_once
                quiet_sends_complete_only_if_they_fail one_poll_delivers_no_more_than_there_is_room_for
                what_ends_while_the_queue_is_full_ends_the_wait a_turn_larger_than_the_queues;
            stream: a_large_send_is_finished_inside a_large_quiet_send_is_finished_inside nothing_empty_is_accepted
                the_end_comes_once_on_a_stream the_end_comes_again_and_again_to_receive_into bytes_before_the_end_come_first
                half_close_in_both_directions the_write_side_ends_after_what_is_queued an_urgent_byte_holds_nothing_up
                a_reset_is_a_typed_error a_reset_is_never_an_orderly_end bulk_bytes_arrive_exact;
            order: many_odd_sends_arrive_in_order quiet_sends_keep_their_order_past_a_full_socket
                more_pieces_than_one_request_takes
                single_receives_are_first_in_first_out one_kind_of_receive_at_a_time;
            pause: nothing_comes_while_paused what_was_taken_is_held what_waits_for_delivery_is_held the_end_waits_for_resume
                a_reset_waits_for_resume a_reset_that_waits_for_delivery_is_held nothing_overtakes_the_end_of_a_paused_stream
                cancelling_a_paused_stream_delivers_what_is_held
                closing_a_paused_socket_ends_it a_closed_stream_claims_nothing_that_was_held
                a_stream_paused_a_hundred_times_loses_nothing
                streams_without_intake_keep_no_buffer either_pause_takes_the_place_of_the_other;
            cancel: every_idle_operation_can_be_cancelled what_is_only_queued_ends_within_a_turn
                a_send_stuck_in_the_kernel_can_be_cancelled a_send_of_many_small_steps_can_be_cancelled
                a_send_to_a_half_closed_peer_can_be_cancelled
                a_cancelled_send_leaves_the_others_whole a_cancelled_send_brings_its_payload
                a_cancelled_stream_delivers_what_had_arrived a_cancelled_accept_leaks_no_connection
                cancelling_by_token_ends_them_all a_connect_can_be_cancelled;
            close: a_goodbye_arrives_although_input_is_unread a_graceful_close_ends_at_its_deadline
                a_graceful_close_waits_for_the_peer an_abort_is_a_reset the_id_is_stale_at_once
                what_is_pending_ends_before_closed a_slot_used_again_hears_nothing_of_its_past
                a_listener_closes_with_its_accept a_close_with_a_pending_receive_reaches_the_peer
                a_connection_that_was_reset_still_closes a_deadline_waits_for_what_has_arrived unread_input_is_known;
            stale: ids_of_closed_sockets_are_refused ids_of_another_driver_are_refused forged_ids_are_refused
                ids_of_ended_operations_are_refused a_receive_ended_by_a_close_is_stale;
            threads: what_may_go_anywhere_and_what_may_not eight_threads_while_the_driver_shuts_down
                each_submitter_keeps_its_order many_submits_are_one_wake a_wake_without_an_operation_ends_a_wait
                a_full_mailbox_gives_the_value_back
                an_accepted_socket_goes_to_another_driver buffers_come_home_from_other_threads;
            limits: a_peer_that_never_reads_makes_busy writable_comes_when_nothing_is_queued
                the_table_of_sockets_is_bounded
                the_table_of_operations_is_bounded a_socket_refused_for_want_of_operations_is_told
                a_wrong_configuration_is_refused statistics_count_what_happened;
            starve: an_exhausted_pool_recovers buffers_from_another_thread_wake_a_sleeping_owner
                a_waiter_that_closed_takes_nobodys_turn
                streams_without_bytes_pass_buffers_on quiet_datagrams_pass_buffers_on a_starved_driver_does_not_spin senders_have_their_own_quota
                one_busy_socket_does_not_starve_the_others an_idle_connection_holds_no_buffer
                a_quiet_socket_among_a_hundred_flooding_ones_is_served a_quiet_socket_is_served_when_buffers_run_out
                a_quiet_socket_among_a_thousand_flooding_ones_is_served;
            lifetime: a_drop_with_a_thousand_operations_in_flight a_passed_drain_deadline_leaks_and_counts
                a_shut_driver_refuses_everything
                buffers_outlive_their_driver drivers_come_and_go_in_one_thread
                rings_that_come_and_go_do_not_disturb_a_wait;
            accept: more_connections_than_the_queues_hold an_accept_stream_backs_off_without_descriptors
                a_missing_descriptor_costs_one_connection a_cancelled_stream_leaves_nobody_in_a_shared_listener
                a_connection_that_ended_in_the_backlog_does_no_harm
                a_listener_may_be_shared_with_other_back_ends a_shared_listener_never_blocks_who_else_accepts;
            endpoints: connections_over_every_address_family a_refused_connect_is_a_typed_error
                an_address_in_use_is_refused listeners_may_share_a_port options_reach_the_sockets
                times_out_of_range_are_named
                any_stream_socket_can_be_adopted what_no_driver_can_use_is_given_back;
            address: ipv4_peers_of_a_dual_stack_listener_are_ipv4 datagram_sockets_of_both_families_reach_ipv4
                destinations_that_nobody_has_fail_alone link_local_peers_keep_their_scope;
            datagram: each_datagram_comes_whole_and_alone each_of_a_crowd_is_told_apart hundreds_under_way_all_complete
                what_is_too_long_is_truncated_and_the_next_one_whole large_datagrams_come_in_bulk_buffers
                a_socket_with_a_peer_hears_nobody_else a_refused_peer_does_not_end_the_stream
                addresses_of_both_families multicast_reaches_the_members a_paused_stream_of_datagrams_keeps_them
                a_cancelled_stream_of_datagrams_ends what_is_under_way_ends_before_closed
                too_many_datagrams_are_busy datagrams_wait_for_a_buffer only_what_fits_the_socket_is_accepted
                a_datagram_that_no_network_takes_comes_back any_datagram_socket_can_be_adopted
                no_allocation_per_datagram;
            merged: bursts_of_any_lengths_arrive_whole_and_alone bursts_to_several_addresses_go_where_they_should
                one_that_is_too_long_takes_no_other_with_it what_does_not_fit_is_truncated_one_by_one
                the_kernel_merges_where_it_can a_bad_destination_ends_no_merging parts_are_buffers_of_their_own parts_outlive_their_driver
                a_paused_stream_keeps_what_came_together a_cancelled_stream_loses_none_of_them
                held_parts_exhaust_the_pool_and_it_recovers coalescing_needs_large_buffers;
            time: timers_fire_in_order_and_not_early ten_thousand_timers a_cancelled_timer_does_not_fire
                a_poll_ends_at_its_timeout latencies_are_counted;
            unix: a_dead_listeners_path_is_taken_over a_path_in_use_is_refused paths_that_cannot_be_are_typed_errors
                both_ends_have_addresses a_listener_from_outside_can_be_adopted
                descriptors_on_the_way_hold_nothing_up a_full_backlog_is_waited_for;
            bounds: what_is_far_ahead_does_not_come_early a_wait_for_centuries_sleeps
                sixty_six_thousand_sends_of_one_socket a_queue_of_gibibytes_does_not_wrap
                a_send_of_more_than_two_gibibytes quiet_sends_of_many_pieces_end_by_themselves;
            settings: every_value_works_or_is_refused_by_name any_combination_works_or_is_refused_by_name
                faults_of_any_rate_leave_a_way_out every_option_works_or_is_refused_by_name
                without_memory_a_driver_is_refused_by_name;
            choice: a_named_back_end_is_the_one_that_runs what_is_named_is_never_replaced;
            steady: no_allocation_per_operation;
        }
    };
}

/// The storms: long, so they run once per mechanism, not for each switched-off feature.
#[macro_export]
macro_rules! every_storm {
    ($cases:ident, $setup:expr) => {
        $cases! { $setup;
            storm: five_thousand_sockets_open_and_close five_hundred_connections_echo_a_hundred_messages cancels_race_completions_of_receives
                cancels_race_completions_of_sends a_connect_without_an_answer_times_out;
        }
    };
}

/// What is about the choice of a back end: each runs child processes and names its back ends itself.
#[macro_export]
macro_rules! every_choice {
    ($cases:ident) => {
        $cases! {
            roles: epoll_waits_in_milliseconds_if_it_must a_seccomp_filter_with_eperm a_seccomp_filter_with_enosys
                a_seccomp_filter_of_one_thread a_seccomp_filter_after_the_start io_uring_disabled_by_sysctl
                the_environment_replaces_auto_only available_tells_the_truth;
        }
    };
}
