//! `kubectl attach`: what the container prints from now on; what the caller types is printed too.
//! A container that was declared with `stdin` (as `kubectl run -i` does) runs its command now,
//! for the caller who attaches.

use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use serde_json::{Value, json};

use super::connection::{Answer, Exchange};
use super::exec;
use super::logs::{Container, container_of};
use super::status::Failure;
use super::store::text;
use super::streams::{self, Input, Remote, Wants, exit_status};
use super::world::{World, now_text};

/// How long each side is waited for before the other is looked at.
const PATIENCE: Duration = Duration::from_millis(20);

pub(crate) fn answer(exchange: &mut Exchange<'_>) -> Result<Answer, Failure> {
    let container = container_of(exchange)?;
    let (namespace, name) = (container.0.as_str(), container.1.as_str());
    let wants = Wants::of(&exchange.request.query);
    let pod = exchange.world.store.get("pods", namespace, name);
    let declared = pod.as_deref().and_then(|pod| interactive(pod, &container.2));
    let root = exchange.world.pods.root(namespace, name)?;
    let world = exchange.world.clone();
    let remote = streams::open(exchange, wants)?;
    let output = remote.output.clone();
    let status = match declared {
        Some(command) => {
            let status = exec::run(&root, &command, wants, remote);
            ended(&world, &container, &status);
            status
        }
        None => follow(&world, &container, wants, &remote)?,
    };
    output.finish(&status)?;
    Ok(Answer::Sent)
}

fn follow(
    world: &World,
    container: &Container,
    wants: Wants,
    remote: &Remote,
) -> Result<Value, Failure> {
    let mut next = world.logs.len(container);
    let mut typing = true;
    loop {
        let lines = world.logs.after(container, next, PATIENCE);
        next += lines.len();
        for line in &lines {
            remote.output.stdout(format!("{}\n", line.text).as_bytes())?;
        }
        if !typing && lines.is_empty() {
            return Ok(exit_status(0));
        }
        match remote.input.recv_timeout(PATIENCE) {
            Ok(Input::Stdin(data)) => {
                for line in String::from_utf8_lossy(&data).lines() {
                    world.logs.print(&container.0, &container.1, &container.2, line);
                }
            }
            Ok(Input::StdinEnd) => typing = !wants.stdin,
            Ok(Input::Resize { .. }) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(exit_status(0)),
        }
    }
}

/// The command of a container that waits for somebody to attach.
fn interactive(pod: &Value, container: &str) -> Option<Vec<String>> {
    let lists = ["/spec/containers", "/spec/ephemeralContainers"];
    let mut all = lists.iter().filter_map(|list| pod.pointer(list)?.as_array()).flatten();
    let declared = all.find(|declared| text(declared, "/name") == container)?;
    if declared.get("stdin") != Some(&json!(true)) {
        return None;
    }
    let words = |field: &str| {
        let list = declared.get(field).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(String::from)
    };
    let command: Vec<String> = words("command").chain(words("args")).collect();
    Some(if command.is_empty() { vec!["sh".into()] } else { command })
}

/// Notes in the pod that a command has ended, for whoever waits for that. The pod itself ends with
/// it only if it is not to be restarted.
fn ended(world: &World, (namespace, name, container): &Container, exit: &Value) {
    let Some(pod) = world.store.get("pods", namespace, name) else { return };
    let mut pod = Value::clone(&pod);
    let code = text(exit, "/details/causes/0/message").parse::<i32>().unwrap_or_default();
    let once = text(&pod, "/spec/restartPolicy") != "Always";
    for statuses in ["containerStatuses", "ephemeralContainerStatuses"] {
        let all = pod.pointer_mut(&format!("/status/{statuses}")).and_then(Value::as_array_mut);
        let mut all = all.into_iter().flatten();
        let Some(ours) = all.find(|status| text(status, "/name") == container) else { continue };
        let ephemeral = statuses == "ephemeralContainerStatuses";
        if !(once || ephemeral) {
            continue;
        }
        if let Some(ours) = ours.as_object_mut() {
            let end = json!({ "exitCode": code, "reason": "Completed", "finishedAt": now_text() });
            ours.insert("ready".into(), json!(false));
            ours.insert("state".into(), json!({ "terminated": end }));
        }
        if let (false, Some(status)) =
            (ephemeral, pod.get_mut("status").and_then(Value::as_object_mut))
        {
            let phase = if code == 0 { "Succeeded" } else { "Failed" };
            status.insert("phase".into(), json!(phase));
        }
    }
    // Deleted meanwhile: nobody waits any more.
    let _ = world.store.update("pods", pod, None);
}
