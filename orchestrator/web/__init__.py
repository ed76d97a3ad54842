"""`vecfleet serve`: one process with the operator's page, the fleet's API, the tenants' API and the metrics.

app            the application: `/` for operators, `/api/v1` for programs, `/delphi` for tenants, `/metrics`
operator       the operator's page: every job live, and the forms that steer it
doors          routes whose refusals are pages, forms within limits, and who may act
acting         what each form does
offering       the acts on offer for a job: what `next:` names, then what its state allows
looking        one look at the job table, shared by all viewers
views          what the page shows of a job: words, marks, charts
searching      the list of jobs: searched, filtered, sorted
batch_history  one batch: its work, and what the logs here say of it
plans          the plan files, and the start of a job from one
fleet_health   the workers that answer, and what each holds
pages          HTML from templates that escape everything, with the headers of every page
charts         figures over time as points of a drawing
sampling       the pace over the last minutes
feed           live updates: a job is read once a second, however many look
sessions       the people who are signed in: a signed cookie, and a proof in each form
throttle       limits on attempts to sign in, by address
protocol       limits of size and time on heads and bodies
api            the fleet's HTTP API: its roles and their limits
api_looks      its routes that change nothing
api_acts       its routes that act, once for each key
applications   the calls of an application's clients: routes, shadow reads, fence
metrics        figures for monitoring, by job and never by namespace
otlp           the same figures, sent by OTLP where that is configured
reference      the calls of the API, for the page that describes them
"""
