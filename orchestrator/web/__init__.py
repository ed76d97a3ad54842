"""`vecfleet serve`: one process with the operator's page, the tenants' API, the routes and the metrics.

app           the application: `/` for operators, `/delphi` for tenants, `/metrics` for monitoring
operator      the operator's page: every job live, and the forms that steer it
acting        what each form does
looking       one look at the job table, shared by all who ask
views         what the page shows of a job: words, marks, and what may be done
pages         HTML from templates that escape everything, with the headers of every page
charts        figures over time as points of a drawing
sampling      the pace over the last minutes
feed          live updates: a job is read once a second, however many look
sessions      who is signed in: a signed cookie, and a proof in each form
throttle      how often an address may ask without being known
protocol      limits of size and time on heads and bodies
applications  what clients of an application ask: routes, shadow reads, fence
metrics       figures for monitoring, by job and never by namespace
reference     the calls of the API, for the page that describes them
"""
