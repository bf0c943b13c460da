//! The conformance checklist of Hybrid Connections, and the tests that stand for each line of it.
//! A test that is renamed or lost is missed here.

/// Where tests are.
const SOURCES: [&str; 17] = [
    include_str!("deadlines.rs"),
    include_str!("flood.rs"),
    include_str!("hostile.rs"),
    include_str!("http.rs"),
    include_str!("http_ends.rs"),
    include_str!("listen.rs"),
    include_str!("operators.rs"),
    include_str!("call.rs"),
    include_str!("pump.rs"),
    include_str!("rendezvous.rs"),
    include_str!("../sdk/ws.js"),
    include_str!("../sdk/https.js"),
    include_str!("../sdk/third.py"),
    include_str!("../../src/wire/control.rs"),
    include_str!("../../src/auth/sas_tests.rs"),
    include_str!("../../src/role/relay/storm.rs"),
    include_str!("../../src/role/relay/target.rs"),
];

#[test]
fn every_line_of_the_checklist_has_its_tests() {
    let all = SOURCES.concat();
    for (line, tests) in CHECKLIST {
        for test in *tests {
            let forms = [format!("fn {test}("), format!("'{test}'"), format!("def {test}(")];
            assert!(forms.iter().any(|form| all.contains(form)), "{line}: no test {test:?}");
        }
    }
}

const CHECKLIST: &[(&str, &[&str])] = &[
    (
        "1. The sender's 101 waits for the rendezvous; 404 without listener; 504 after 30 s",
        &[
            "the_sender_is_answered_only_when_the_listener_is_there",
            "checks_come_in_the_order_shape_token_entity_listeners",
            "a_silent_listener_costs_the_sender_thirty_seconds",
            "a_sender_waits_for_as_long_as_its_entity_says",
            "an_accept_that_is_not_answered_is_offered_again",
            "refusals have the status and the tracking id that people look for",
        ],
    ),
    (
        "2. Every accept has address, id, connectHeaders, remoteEndpoint, and no token",
        &[
            "an_accept_says_who_the_sender_is_and_never_its_token",
            "an_accept_has_the_members_and_the_order_of_the_service",
        ],
    ),
    (
        "3. Rendezvous ids: second use 403, unknown 403, after the sender left 410; no token",
        &[
            "a_rendezvous_is_good_for_one_use",
            "guesses_at_an_id_find_nothing_and_use_up_nothing",
            "a_listener_that_comes_after_the_sender_left_is_told_so",
            "an_id_is_no_way_into_another_entity",
        ],
    ),
    (
        "4. Bodies of 0, 1, 65,535, 65,536 inline; 65,537 and chunked by pointer; no interleaving",
        &[
            "bodies_up_to_sixty_four_kilobytes_are_inline",
            "one_byte_more_is_fetched_in_either_framing",
            "a_request_without_a_body_is_one_command",
            "many_requests_at_once_do_not_mix",
            "bodies of every size and framing arrive",
            "many requests at once do not mix",
        ],
    ),
    (
        "5. A pointer only with a body; frames of at most 32 KiB; commands of at most 64 KiB or 431",
        &[
            "longer_bodies_are_fetched_and_streamed",
            "a_body_that_takes_its_time_is_fetched",
            "headers_that_no_listener_could_read_are_refused",
            "requests_that_cannot_be_relayed_are_refused",
        ],
    ),
    (
        "6. Tolerated: empty binary, body on HEAD, loose types, Close 1000 as an end, late answers",
        &[
            "what_has_no_body_gets_none",
            "a_control_channel_answers_pings_and_bears_what_listeners_do",
            "what_other_implementations_write_is_understood",
            "a_close_of_1000_ends_a_body_and_nothing_else_does",
            "a_listener_that_is_late_costs_the_sender_its_answer",
            "answers without a body have none",
        ],
    ),
    (
        "7. Half-close both ways; Close verbatim and never answered; abort is 1006",
        &[
            "a_close_is_passed_on_as_it_came_and_the_other_direction_goes_on",
            "a_half_closed_connection_lives_as_long_as_bytes_are_delivered",
            "a_leg_that_ends_without_a_close_takes_the_other_with_it",
            "a close reaches the other end as it was sent",
            "an abort reaches the other end as one",
            "closes_of_either_end_arrive_verbatim",
            "either_half_closes_and_the_other_goes_on",
            "whoever_breaks_the_rules_is_told_and_the_other_is_cut_off",
        ],
    ),
    (
        "8. Pings answered on all sockets; idle ones pinged; the dead evicted",
        &[
            "pings_are_answered_on_their_own_leg_and_not_within_a_frame",
            "idle_legs_are_pinged_and_the_dead_are_dropped",
            "a_dead_listener_is_found_out_by_pings",
            "the_dead_make_room_for_the_listener_too_many",
            "the_listener_too_many_is_refused",
            "a_listener_that_takes_its_time_is_asked_for_a_sign_of_life",
            "a_listener_that_dies_under_a_slow_request_is_found_out",
            "pings are answered on both kinds of socket",
        ],
    ),
    (
        "9. Tokens: vectors, audiences, second key, case of names, expiry, rights, siblings",
        &[
            "the_vectors_verify_and_cover_hc1_alone",
            "every_sdk_form_of_the_audience_passes",
            "an_audience_beside_the_target_is_refused",
            "both_keys_of_a_rule_are_good_and_its_name_has_no_case",
            "a_token_ends_at_its_second",
            "the_first_failing_check_names_the_refusal",
            "a_changed_byte_anywhere_in_what_is_signed_is_refused",
            "nobody_listens_under_anothers_name",
        ],
    ),
    (
        "10. renewToken without reply; 1008 when bad; 1008 at expiry and 300 s; sockets survive",
        &[
            "a_renewed_token_keeps_the_channel_open",
            "a_bad_renewal_closes_the_channel",
            "an_expired_token_ends_the_channel_five_minutes_later_and_no_relayed_socket",
            "a bad renewal closes the channel and the listener comes back",
        ],
    ),
    (
        "11. Authorization before existence; 503 while loading; refused listens are held",
        &[
            "checks_come_in_the_order_shape_token_entity_listeners",
            "nothing_is_404_while_the_entities_are_unknown",
            "a_listener_that_doubles_its_attempts_is_stopped",
            "refused_listens_are_answered_three_times_and_then_held",
            "a listener with a bad token cannot storm the relay",
            "a listener with a bad key sees its 401",
        ],
    ),
    (
        "12. sb-hc-* stripped, everything else byte for byte",
        &[
            "only_parameters_of_the_relay_are_taken_out",
            "the_rendezvous_address_has_the_senders_own_part_first",
            "careless_urls_are_understood",
            "a_request_without_a_body_is_one_command",
        ],
    ),
    (
        "13. Authorization is the listener's unless it was the token; ServiceBusAuthorization never",
        &[
            "authorization_stays_with_whom_it_is_for",
            "an entity without tokens gets requests as they are",
        ],
    ),
    (
        "14. Via on relayed responses, not on the relay's own errors, which are JSON",
        &[
            "an_inline_answer_has_a_length_and_a_via_and_the_connection_goes_on",
            "errors_for_http_senders_are_json_and_have_no_via",
            "errors of the relay are json without Via",
        ],
    ),
    (
        "15. 1 GiB through one relayed socket with a slow reader: bounded memory",
        &[
            "a_gibibyte_passes_a_slow_reader_within_ten_buffers_and_neighbours_do_not_wait",
            "a slow reader gets everything and costs the relay nothing",
        ],
    ),
];
