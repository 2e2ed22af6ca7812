-- Forecast of each metric from mixing and sampling alone, next to the value measured on the model.
select run, generation, metric, f.value as forecast, m.value as measured from forecast as f
join (select * from metrics where subject = 'model' and source = 'all') as m
    using (run, generation, metric) order by run, metric, generation
