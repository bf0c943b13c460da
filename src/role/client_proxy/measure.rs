//! The tunnel is measured, and the process ends: the role's part in `cluster-connect bench`.

use super::session::say_goodbye;
use super::{ClientProxy, Key};
use crate::engine::mux::Event;
use crate::engine::probe::{Near, News, Plan};
use crate::role::{ConnId, Fault, Net, Notice};

impl ClientProxy {
    /// The one cluster has a session, and the caller a token for it.
    pub(super) fn start_measuring(&mut self, plan: Plan, net: &mut dyn Net) {
        let Some(cluster) = self.clusters.values().next() else { return };
        let bearer = self.config.kubernetes_token.as_ref().or_else(|| cluster.token.text());
        let (Some(conn), Some(bearer)) = (cluster.session, bearer) else { return };
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let pool = net.pool().clone();
        let near = Near::start(plan, bearer, &mut session.tunnel, &pool, net.now());
        self.near = near.map(|near| (conn, near));
        self.after_measure(net);
        self.pump_session(conn, net);
    }

    pub(super) fn on_measured(&mut self, event: Event, net: &mut dyn Net) {
        let Some((conn, near)) = self.near.as_mut() else { return };
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let pool = net.pool().clone();
        near.handle(event, &mut session.tunnel, &pool, net.now());
        self.after_measure(net);
    }

    pub(super) fn on_measure_due(&mut self, net: &mut dyn Net) {
        let Some((conn, near)) = self.near.as_mut() else { return };
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let (conn, pool) = (*conn, net.pool().clone());
        near.handle_deadline(&mut session.tunnel, &pool, net.now());
        self.after_measure(net);
        self.pump_session(conn, net);
    }

    fn after_measure(&mut self, net: &mut dyn Net) {
        let Some((conn, near)) = self.near.as_mut() else { return };
        let (conn, news) = (*conn, near.poll_news());
        match near.deadline() {
            Some(at) => self.timers.set(Key::Measure, at),
            None => self.timers.cancel(Key::Measure),
        }
        let name = self.clusters.values().next().map_or("", |it| it.resource.name());
        match news {
            None => (),
            Some(News::Progress(text)) => net.tell(Notice::Say(text)),
            Some(News::Done(report)) => {
                net.tell(Notice::Measured(Box::new(report)));
                self.stop_measuring(conn, None, net);
            }
            Some(News::Refused(status, words)) => {
                let code = "BENCH_REFUSED";
                let message = format!("the auth proxy of {name} says {status}: {words}");
                self.stop_measuring(conn, Some(Fault { code, message }), net);
            }
            Some(News::Broken(why)) => {
                let message = format!("cluster {name} cannot be measured: {why}");
                let fault = Fault { code: "CLUSTER_UNREACHABLE", message };
                self.stop_measuring(conn, Some(fault), net);
            }
        }
    }

    fn stop_measuring(&mut self, conn: ConnId, why: Option<Fault>, net: &mut dyn Net) {
        say_goodbye(conn, net);
        self.forget_session(conn);
        net.tell(Notice::Exit(u8::from(why.is_some()), why));
    }
}
